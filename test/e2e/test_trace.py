"""W3C Trace Context from end to end: curl, the app, the access log."""

import json
import subprocess

from echo import EchoServer
from upstate import wait_for

CONFIG = """
listen: [ { http: "127.0.0.1:{port}" } ]
admin: { http: "127.0.0.1:{admin}" }
apps:
  echo:
    hosts: ["*"]
    targets: ["127.0.0.1:PORT"]
"""
ID, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def curl(u, *headers):
    words = [w for h in headers for w in ("-H", h)]
    done = subprocess.run(["curl", "-sS", "--max-time", "30", *words, f"http://127.0.0.1:{u.port}/x"],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def records(u):
    path = u.state / "log" / "access.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_curl_the_app_and_the_log_tell_of_one_trace(serve):
    echo = EchoServer()
    u = serve(CONFIG.replace("PORT", str(echo.port)))
    got = curl(u, f"traceparent: 00-{ID}-{PARENT}-01", "tracestate: vendor=1")
    version, trace, parent, flags = got["traceparent"].split("-")
    assert (version, trace, flags) == ("00", ID, "01") and parent != PARENT and got["tracestate"] == "vendor=1"
    made = curl(u)
    assert made["traceparent"].split("-")[1] == made["x-request-id"]
    wait_for(lambda: len(records(u)) == 2, "both are logged")
    first, second = records(u)
    assert first["trace"] == ID and first["id"] == got["x-request-id"]
    assert second["trace"] == second["id"] == made["x-request-id"]
    echo.shutdown()


def test_it_can_be_left_alone(serve):
    echo = EchoServer()
    u = serve("trace: off\n" + CONFIG.replace("PORT", str(echo.port)))
    assert "traceparent" not in curl(u)
    assert curl(u, f"traceparent: 00-{ID}-{PARENT}-01")["traceparent"] == f"00-{ID}-{PARENT}-01"
    u.configure("trace: pass\n" + CONFIG.replace("PORT", str(echo.port)))
    u.cli("reload")
    wait_for(lambda: curl(u, f"traceparent: 00-{ID}-{PARENT}-01")["traceparent"].split("-")[2] != PARENT,
             "the router passes traces on")
    assert "traceparent" not in curl(u)
    echo.shutdown()


def test_a_share_is_logged_and_every_failure(serve):
    echo = EchoServer()
    u = serve("log: { sample: 10%, slow: 0 }\n" + CONFIG.replace("PORT", str(echo.port)))
    traces = ["%032x" % (i * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2 ** 128) for i in range(1, 101)]
    for trace in traces:
        assert u.get("/", headers={"traceparent": f"00-{trace}-{PARENT}-01"})[0] == 200
    for trace in traces[:5]:
        assert u.get("/failed", headers={"traceparent": f"00-{trace}-{PARENT}-01", "X-Status": "500"})[0] == 500

    def left_out():
        text = u.api("GET", "/metrics")[1]
        return int(next(x for x in text.splitlines() if x.startswith("upstate_router_log_left_out_total")).split()[1])

    wait_for(lambda: len(records(u)) + left_out() == 105, "each is logged or left out")
    wait_for(lambda: sum(r["path"] == "/failed" for r in records(u)) == 5, "failures are in the file")
    shares = {r["path"]: r["sample"] for r in records(u)}
    assert shares == {"/": 0.1, "/failed": 1}
    assert 2 <= sum(r["path"] == "/" for r in records(u)) <= 25
    echo.shutdown()
