"""upstate explain: what it says must be what then happens."""

import json
import threading
import urllib.parse

import apps
from echo import EchoServer
from upstate import wait_for

TWO = """
listen: [ { http: "127.0.0.1:{port}" } ]
admin: { http: "127.0.0.1:{admin}" }
trusted_proxies: [192.0.2.0/24]
apps:
  web:
    hosts: [web.localhost, "*.web.localhost"]
    run: ./server.py --socket $UPSTATE_SOCKET
    instances: 2
    health: { path: /up, every: 200ms }
    bake: 300ms
    body: 1MiB
    hold: { wait: 30s, requests: 2 }
  api:
    hosts: [web.localhost]
    path: /api
    targets: ["127.0.0.1:9"]
    health: { every: 100ms, fall: 1 }
    hold: { wait: 300ms }
"""


def explain(u, url, **more):
    status, answer = u.api("GET", "/v1/explain?" + urllib.parse.urlencode(dict(url=url, **more), doseq=True))
    assert status == 200, answer
    return answer


def served(serve, tree):
    u = serve(TWO)
    u.deploy("web", tree("one", apps.files("one", slow=0)))
    return u


def test_the_app_and_the_patterns_that_lost_are_told(serve, tree):
    u = served(serve, tree)
    a = explain(u, "http://web.localhost/x?y=/api")
    assert a["app"] == "web" and a["match"]["host"] == "web.localhost" and a["lost"] == []
    a = explain(u, "http://web.localhost:8080/api/x")
    assert a["app"] == "api" and a["match"]["path"] == "/api"
    assert [(m["app"], m["path"], m["lost"]) for m in a["lost"]] == [("web", "/", "its path is shorter")]
    a = explain(u, "a.b.web.localhost/api")
    assert a["app"] == "web" and a["match"]["host"] == "*.web.localhost"
    assert a["applied"] is True


def test_the_targets_that_may_be_next_are_those_that_get_it(serve, tree):
    u = served(serve, tree)
    a = explain(u, "http://web.localhost/")
    assert a["verdict"] == "send" and a["status"] is None
    assert [(t["name"], t["state"], t["use"], t["next"]) for t in a["targets"]] == [
        ("web@1/1", "up", "serve", True), ("web@1/2", "up", "serve", True)]
    pids = {i["name"]: i["pid"] for i in u.app("web")["instances"]}
    assert {int(u.get("/", host="web.localhost")[1].split()[2]) for _ in range(6)} == set(pids.values())
    u.cli("drain", "web", "web@1/1", "--why", "a test")
    a = explain(u, "http://web.localhost/")
    assert [(t["next"], t["remark"]) for t in a["targets"]] == [(False, "drains: gets nothing new"), (True, "next")]
    assert {int(u.get("/", host="web.localhost")[1].split()[2]) for _ in range(4)} == {pids["web@1/2"]}


def test_held_it_would_wait_and_with_a_full_room_be_refused(serve, tree):
    u = served(serve, tree)
    u.cli("hold", "web", "--why", "a test")
    a = explain(u, "http://web.localhost/")
    assert a["verdict"] == "wait" and "held" in a["text"] and a["waiting"] == {"now": 0, "bound": 2, "wait_ms": 30000}
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(u.get("/", host="web.localhost")[0])) for _ in range(2)]
    for t in threads:
        t.start()
    wait_for(lambda: u.app("web")["waiting"] == 2, "two wait")
    a = explain(u, "http://web.localhost/")
    assert (a["verdict"], a["status"]) == ("refuse", 503) and "full" in a["text"]
    assert u.get("/", host="web.localhost")[0] == 503
    u.cli("resume", "web", "--why", "a test")
    for t in threads:
        t.join()
    assert answers == [200, 200]


def test_in_an_outage_it_waits_and_later_ones_are_refused(serve, tree):
    u = served(serve, tree)
    wait_for(lambda: explain(u, "http://web.localhost/api")["verdict"] == "refuse", "the outage has lasted")
    a = explain(u, "http://web.localhost/api")
    assert a["status"] == 503 and "none of its targets can serve" in a["text"]
    assert a["targets"][0]["state"] == "down" and a["targets"][0]["reason"]
    assert u.get("/api", host="web.localhost")[0] == 503


def test_what_the_router_refuses_is_refused_here_for_the_same_reason(serve, tree):
    u = served(serve, tree)
    a = explain(u, "http://wev.localhost/")
    assert (a["app"], a["status"], a["nearest"]) == (None, 404, "web.localhost")
    assert sorted(a["hosts"]) == ["*.web.localhost", "web.localhost"]
    assert u.get("/", host="wev.localhost")[0] == 404
    a = explain(u, "http://web.localhost/", method="POST", header="Content-Length: 2000000")
    assert (a["app"], a["verdict"], a["status"]) == ("web", "refuse", 413)
    a = explain(u, "http://web.localhost/", header=["Content-Length: 5", "Transfer-Encoding: chunked"])
    assert a["status"] == 400 and a["app"] is None
    assert explain(u, "http://web.localhost/a b")["status"] == 400
    assert explain(u, "/")["status"] == 400  # no Host
    assert explain(u, "/", header="Host: web.localhost")["app"] == "web"
    assert explain(u, "web.localhost:80", method="CONNECT")["status"] in (400, 405)


def test_headers_are_those_that_the_app_gets(serve):
    echo = EchoServer()
    u = serve(TWO.replace("192.0.2.0/24", "127.0.0.1").replace("127.0.0.1:9", f"127.0.0.1:{echo.port}"))
    sent = {"X-Forwarded-For": "203.0.113.9", "X-Request-Id": "abc", "Forwarded": "for=203.0.113.9"}
    status, got, _ = u.get("/api", host="web.localhost", headers=sent)
    assert status == 200
    a = explain(u, "http://web.localhost/api", header=[f"{k}: {v}" for k, v in sent.items()], **{"from": "127.0.0.1"})
    got = json.loads(got)
    assert [h["name"].lower() for h in a["headers"] if h["name"].lower() not in got] == []
    assert a["headers"].pop()["value"].startswith("made anew: 00-") and got["traceparent"].startswith("00-")
    for h in a["headers"]:
        assert got[h["name"].lower()] == h["value"], h
    assert got["x-request-id"] == "abc"
    echo.shutdown()
    a = explain(u, "http://web.localhost/", header="X-Forwarded-For: 203.0.113.9", **{"from": "2001:db8::1"})
    headers = {h["name"]: h["value"] for h in a["headers"]}
    assert headers["X-Forwarded-For"] == "2001:db8::1"
    assert headers["Forwarded"] == 'for="[2001:db8::1]";host="web.localhost";proto=http'
    assert any("trusted proxy" in t for t in explain(u, "http://web.localhost/")["unknown"])


def test_the_command_tells_it_to_a_person_and_refuses_nonsense(serve, tree):
    u = served(serve, tree)
    out = u.cli("explain", "http://web.localhost/x%20y", "-H", "Accept: text/html", "--from", "127.0.0.1").stdout
    assert "app   web: host web.localhost, path / (the host itself)" in out
    assert "now   it goes to web@1/1, web@1/2, in turn" in out and "x%20y" in out
    assert json.loads(u.cli("explain", "http://web.localhost/", "--json").stdout)["app"] == "web"
    done = u.cli("explain", "http://nobody.localhost/", ok=False)
    assert done.returncode == 1 and "404: no app has host 'nobody.localhost'" in done.stdout
    for wrong in (["ftp://web.localhost/"], ["http://web.localhost/", "-H", "nonsense"],
                  ["http://web.localhost/", "--from", "nowhere"]):
        assert u.cli("explain", *wrong, ok=False).returncode == 2


def test_the_policy_of_an_app_is_told_in_the_order_of_the_router(serve):
    echo = EchoServer()
    rules = """
    deny: [192.0.2.7]
    redirects: [{ from: /old/*, to: /new, status: 308 }]
    headers: { request: { set: { X-Team: blue }, remove: [X-Secret] } }
"""
    text = TWO.replace("trusted_proxies: [192.0.2.0/24]\n", "").replace("127.0.0.1:9", f"127.0.0.1:{echo.port}") + rules
    u = serve(text)
    wait_for(lambda: u.get("/api", host="web.localhost")[0] == 200, "it serves")
    url = "http://web.localhost/api/x"
    a = explain(u, url, **{"from": "192.0.2.7"})
    assert (a["verdict"], a["status"]) == ("refuse", 403)
    a = explain(u, url, **{"from": "192.0.2.8"})
    assert a["verdict"] == "send" and a["policy"]["set"] == [{"name": "X-Team", "value": "blue"}]
    assert [h["name"].lower() for h in a["policy"]["removed"]] == ["x-secret"]
    assert any("address may use" in t for t in explain(u, url)["unknown"])
    u.configure(text.replace("from: /old/*", "from: /api/old/*"))
    u.cli("reload")
    wait_for(lambda: u.get("/api/old/x?y", host="web.localhost")[0] != 200, "the redirect is there")
    a = explain(u, "http://web.localhost/api/old/x?y", **{"from": "192.0.2.8"})
    status, _, headers = u.get("/api/old/x?y", host="web.localhost")
    assert a["verdict"] == "redirect" and a["status"] == status and a["text"] == f"it is sent to {headers['Location']}"
    u.configure(text + "    maintenance: true\n")
    u.cli("reload")
    wait_for(lambda: u.get("/api", host="web.localhost")[0] == 503, "maintenance has begun")
    a = explain(u, url)
    assert (a["verdict"], a["status"]) == ("refuse", 503) and "maintenance" in a["text"]
    echo.shutdown()
