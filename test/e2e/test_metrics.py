"""/metrics, read by those who read it in the field: promtool and the OpenMetrics parser of Prometheus'
Python client."""

import http.client
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading

import apps
from prometheus_client.openmetrics import parser
from upstate import wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOP = apps.CONFIG.split("apps:")[0]
OPEN = "application/openmetrics-text; version=1.0.0"


def scrape(u, accept=None, query="", method="GET"):
    c = http.client.HTTPConnection("127.0.0.1", u.admin, timeout=30)
    try:
        c.request(method, "/metrics" + query, headers={"Accept": accept} if accept else {})
        answer = c.getresponse()
        assert answer.status == 200
        return answer.getheader("content-type"), answer.read().decode()
    finally:
        c.close()


def samples(u, query=""):
    """{(name, labels as a sorted tuple): value} of all, checked by the parser."""
    kind, text = scrape(u, OPEN, query)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    found = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.documentation
        for s in family.samples:
            found[s.name, tuple(sorted(s.labels.items()))] = s.value
    return found


def value(found, name, **labels):
    return found[name, tuple(sorted(labels.items()))]


def promtool():
    """What ./do test unpacks, or an installed one."""
    mine = ROOT / "build" / "tools" / "promtool"
    path = str(mine) if mine.exists() else shutil.which("promtool")
    assert path, "no promtool: ./do tools unpacks it from Debian's package"
    return path


def served(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    return u


def test_promtool_finds_nothing_to_say(serve, tree):
    u = served(serve, tree)
    for _ in range(5):
        assert u.get("/")[0] == 200
    kind, text = scrape(u)
    assert kind.startswith("text/plain; version=0.0.4")
    done = subprocess.run([promtool(), "check", "metrics"], input=text, text=True, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not text.endswith("# EOF\n")
    assert scrape(u, method="HEAD")[1] == ""


def test_numbers_are_those_of_the_traffic(serve, tree):
    u = served(serve, tree)
    for _ in range(7):
        assert u.get("/")[0] == 200
    assert u.get("/", host="nobody.example")[0] == 200  # the only app takes every host
    app = {"app": "web"}
    wait_for(lambda: value(samples(u), "upstate_app_responses_total", **app, **{"class": "2xx"}) == 8,
             "eight answers are counted")
    found = samples(u)
    assert value(found, "upstate_app_requests_total", **app) == 8
    assert value(found, "upstate_app_latency_seconds_count", **app) == 8
    assert value(found, "upstate_app_latency_seconds_bucket", **app, le="+Inf") == 8
    assert 0 < value(found, "upstate_app_latency_seconds_sum", **app) < 60
    assert sum(v for (name, labels), v in found.items()
               if name == "upstate_target_responses_total" and ("class", "2xx") in labels) == 8
    status = u.app("web")
    assert value(found, "upstate_release_info", **app, release=status["current"], id=status["id"]) == 1
    for i in status["instances"]:
        who = {"app": "web", "target": i["name"]}
        assert value(found, "upstate_target_state", **who, state="up") == 1
        assert value(found, "upstate_target_state", **who, state="down") == 0
        assert value(found, "upstate_target_info", **who, release="web@1", use="serve") == 1
    assert value(found, "upstate_app_status", **app, status="good") == 1
    assert value(found, "upstate_part_up", part="router") == 1
    assert value(found, "upstate_router_accepted_total") >= 8
    assert value(found, "upstate_limit", limit="clients") == 10000


def test_buckets_grow_and_end_at_the_whole(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one", slow=0.05)))
    for _ in range(4):
        assert u.get("/")[0] == 200

    def buckets():
        return sorted((float(dict(labels)["le"]), v) for (name, labels), v in samples(u).items()
                      if name == "upstate_app_latency_seconds_bucket")

    wait_for(lambda: buckets()[-1][1] == 4, "all are counted")
    found = buckets()
    assert len(found) == 21 and found[-1][0] == float("inf")
    assert [v for _, v in found] == sorted(v for _, v in found)
    assert dict(found)[0.032768] == 0  # each took 50 ms at least


def test_every_counter_of_the_shared_memory_is_exported(serve, tree):
    names = {name for name, _ in samples(served(serve, tree))}
    header = (ROOT / "src/wire/shm.h").read_text()
    groups = {"answered_": "responses", "refused_": "refused", "failed_": "failures", "retried_": "retries",
              "ejected_": "ejections"}
    for table, scopes in (("COUNT_TABLE", ("app", "target")), ("GAUGE_TABLE", ("app", "target")),
                          ("THREAD_COUNT_TABLE", ("router",))):
        rows = re.search(rf"#define {table}\(X\)(.*?)\n\n", header, re.S).group(1)
        found = re.findall(r'X\((\w+),\s*"((?:[^"\\]|"\s*\\\s*")*)"\)', rows)
        assert len(found) == rows.count("X(")
        for counter, text in found:
            family = next((f for p, f in groups.items() if counter.startswith(p)
                           and not text.startswith("of these: ")), counter)
            family = {"bytes_in": "received_bytes", "bytes_out": "sent_bytes"}.get(family, family)
            family = re.sub("_(ms|us)$", "_seconds", family)
            gauge = table == "GAUGE_TABLE" or text.endswith("(gauge)")
            for scope in scopes:
                told = not (text.endswith("(app)") and scope == "target"
                            or text.endswith("(target)") and scope == "app")
                name = f"upstate_{scope}_{family}" + ("" if gauge else "_total")
                if told:
                    assert name in names, name


def test_odd_names_of_targets_are_escaped(serve):
    name = 'unix:/tmp/a"b\\c'
    u = serve(TOP + "apps:\n  odd:\n    hosts: ['*']\n    targets: ['" + name + "']\n")
    assert value(samples(u), "upstate_target_state", app="odd", target=name, state="up") == 0


def test_counters_go_on_over_a_new_router_and_a_new_controller(serve, tree):
    u = served(serve, tree)
    for _ in range(10):
        assert u.get("/")[0] == 200
    before = samples(u)
    for part in ("router", "controller", "router", "controller"):
        pid = u.parts()[part]["pid"]
        os.kill(pid, signal.SIGKILL)

        def replaced():
            try:
                parts = u.parts()
            except OSError:
                return False
            return parts[part]["pid"] not in (0, pid) and all(p["status"] == "good" for p in parts.values())

        wait_for(replaced, f"another {part} works")
        wait_for(lambda: u.get("/")[0] == 200, "it serves")
        after = samples(u)
        for key, was in before.items():
            if key[0].endswith(("_total", "_count", "_sum", "_bucket")):
                assert after.get(key, -1) >= was, (part, key)
        assert value(after, "upstate_app_requests_total", app="web") > value(before, "upstate_app_requests_total", app="web")
        before = after
    assert value(before, "upstate_part_restarts_total", part="router") == 2
    assert value(before, "upstate_part_restarts_total", part="controller") == 2


def test_one_app_alone_and_an_unknown_one(serve, tree):
    u = served(serve, tree)
    assert {dict(labels).get("app", "web") for _, labels in samples(u, "?app=web")} == {"web"}
    status, body = u.api("GET", "/metrics?app=wbe")
    assert status == 404 and "wbe" in body["error"]["message"]


def test_many_apps_do_not_keep_others_waiting(serve):
    """2,000 apps are 15 MB of text: they come in pieces, and other calls are answered in between."""
    many = "".join(f"  a{i}:\n    hosts: [h{i}.localhost]\n    targets: ['127.0.0.1:9']\n    health: {{ every: 1h }}\n"
                   for i in range(2000))
    u = serve(TOP + "apps:\n" + many)
    answered, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            answered.append(u.api("GET", "/v1/changes/1")[0])

    c = http.client.HTTPConnection("127.0.0.1", u.admin, timeout=60)
    c.request("GET", "/metrics")
    answer = c.getresponse()
    first = answer.read(1000)
    t = threading.Thread(target=ask)
    t.start()
    wait_for(lambda: len(answered) >= 5, "others are answered while an answer is half read")
    text = first + answer.read()
    stop.set()
    t.join()
    c.close()
    assert text.count(b"upstate_app_requests_total{") == 2000
    assert len(text) > 10_000_000


def test_too_many_scrapes_at_once_are_refused_and_counted(serve):
    many = "".join(f"  a{i}:\n    hosts: [h{i}.localhost]\n    targets: ['127.0.0.1:9']\n    health: {{ every: 1h }}\n"
                   for i in range(2000))
    u = serve(TOP + "apps:\n" + many)
    slow = []
    for _ in range(8):  # they read nothing, so that none of them ends
        c = http.client.HTTPConnection("127.0.0.1", u.admin, timeout=60)
        c.request("GET", "/metrics")
        slow.append((c, c.getresponse()))
    status, body = u.api("GET", "/metrics?app=a1")
    assert status == 429 and "try again" in body["error"]["message"]
    for c, answer in slow:
        answer.close()
        c.close()
    wait_for(lambda: u.api("GET", "/metrics?app=a1")[0] == 200, "there is room again")
    found = samples(u, "?app=a1")
    assert value(found, "upstate_limit_overflows_total", limit="api.scrapes") >= 1
