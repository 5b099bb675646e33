"""Deploy, roll back, undo: with the real program and a real app."""

import json
import os
import signal
import threading

import apps
from upstate import wait_for


def test_a_release_is_deployed_and_serves(serve, tree):
    u = serve(apps.CONFIG)
    receipt = u.deploy("web", tree("one", apps.files("one")))
    assert receipt["outcome"] == "done" and receipt["to"] == "web@1"
    status, body, _ = u.get("/")
    assert status == 200 and body.startswith("one 1 ")
    assert u.app("web")["status"] == "good"


def test_a_second_release_takes_over_and_rollback_brings_the_first_back(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    u.deploy("web", tree("two", apps.files("two")))
    assert u.get("/")[1].startswith("two 2 ")
    back = json.loads(u.cli("rollback", "web", "--why", "a test", "--json").stdout)
    assert back["outcome"] == "done" and back["to"] == "web@1" and back["failed"] == 0
    assert u.get("/")[1].startswith("one 1 ")


def test_a_release_that_never_gets_healthy_is_undone(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    done = u.cli("deploy", "web", tree("sick", apps.files("sick", sick=1)), "--why", "a test", "--json", ok=False)
    assert done.returncode == 4, (done.stdout, done.stderr)
    assert json.loads(done.stdout)["outcome"] == "undone"
    assert u.get("/")[1].startswith("one 1 ")
    assert u.app("web")["current"] == "web@1"


def test_a_release_that_crashes_while_it_bakes_is_undone(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    u.configure(apps.CONFIG.replace("bake: 300ms", "bake: 20s"))
    u.cli("reload")
    done = u.cli("deploy", "web", tree("bad", apps.files("bad", crash=0.7)), "--why", "a test", "--json", ok=False)
    assert done.returncode == 4, (done.stdout, done.stderr)
    assert u.get("/")[1].startswith("one 1 ")


def test_the_controller_killed_in_mid_rollout_goes_on_afterwards(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    change = {}

    def deploy():
        change["done"] = u.cli("deploy", "web", tree("two", apps.files("two", late=0.5)), "--why", "a test", ok=False)

    t = threading.Thread(target=deploy)
    t.start()
    wait_for(lambda: u.app("web")["phase"] != "idle", "the rollout has begun")
    pid = u.parts()["controller"]["pid"]
    os.kill(pid, signal.SIGKILL)
    assert u.get("/")[0] == 200

    def finished():
        try:
            app = u.app("web")
        except OSError:
            return False
        return app["phase"] == "idle" and app["current"] == "web@2" and len(app["instances"]) == 2

    wait_for(finished, "the rollout is finished by the next controller", 30)
    t.join()
    assert change["done"].returncode == 0, (change["done"].stdout, change["done"].stderr)
    assert u.parts()["controller"]["pid"] != pid


def test_an_instance_that_dies_is_restarted_while_the_controller_is_dead(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    pids = [i["pid"] for i in u.app("web")["instances"]]
    controller = u.parts()["controller"]["pid"]
    os.kill(controller, signal.SIGSTOP)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        status, body, _ = u.get("/")
        assert status == 200 and int(body.split()[2]) not in pids
    finally:
        os.kill(controller, signal.SIGCONT)
    wait_for(lambda: u.app("web")["status"] == "good", "both serve again")


def test_held_requests_wait_and_are_answered_when_resumed(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    u.cli("hold", "web", "--why", "a test")
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(u.get("/")[0])) for _ in range(5)]
    for t in threads:
        t.start()
    wait_for(lambda: u.app("web")["waiting"] == 5, "five wait")
    assert answers == []
    u.cli("resume", "web", "--why", "a test")
    for t in threads:
        t.join()
    assert answers == [200] * 5


def test_versions_that_must_not_mix_are_switched_behind_a_hold(serve, tree):
    u = serve(apps.CONFIG.replace("bake: 300ms", "bake: 300ms\n    mixed: never"))
    u.deploy("web", tree("one", apps.files("one")))
    stop, seen = threading.Event(), []

    def ask():
        while not stop.is_set():
            seen.append(u.get("/")[:2])

    t = threading.Thread(target=ask)
    t.start()
    receipt = u.deploy("web", tree("two", apps.files("two")))
    stop.set()
    t.join()
    assert receipt["failed"] == 0 and receipt["held"] >= 1
    assert all(status == 200 for status, _ in seen)
    versions = [body.split()[0] for _, body in seen]
    assert versions == sorted(versions)  # one, then two, never back


def test_a_file_with_mistakes_changes_nothing(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    u.configure(apps.CONFIG.replace("instances: 2", "instancez: 2"))
    done = u.cli("reload", ok=False)
    assert done.returncode == 2
    assert "instancez" in done.stderr and "instances" in done.stderr
    assert u.get("/")[0] == 200 and len(u.app("web")["instances"]) == 2


def test_a_change_of_the_file_itself_is_taken_up(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    u.configure(apps.CONFIG.replace("instances: 2", "instances: 3"))
    wait_for(lambda: len([i for i in u.app("web")["instances"] if i["status"] == "good"]) == 3, "three serve")


def test_a_new_environment_is_rolled_out(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    before = {i["pid"] for i in u.app("web")["instances"]}
    u.configure(apps.CONFIG.replace("bake: 300ms", "bake: 300ms\n    env: { COLOR: blue }"))
    u.cli("reload")
    wait_for(lambda: u.app("web")["phase"] == "idle" and
             not before & {i["pid"] for i in u.app("web")["instances"]}, "both were replaced")
    assert b"COLOR=blue" in open(f"/proc/{u.app('web')['instances'][0]['pid']}/environ", "rb").read()


def test_history_tells_who_what_when_why_and_its_chain_verifies(serve, tree, folder):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")), why="the first one")
    between = u.api("GET", "/v1/history?app=web")[1]["records"][-1]["time"]
    u.deploy("web", tree("two", apps.files("two")), why="the second one")
    ends = [r for r in u.api("GET", "/v1/history?app=web")[1]["records"] if r["kind"] == "change.end"]
    assert [r["data"]["why"] for r in ends] == ["the first one", "the second one"]
    assert all(r["data"]["who"] and r["data"]["steps"] for r in ends)
    assert u.api("GET", "/v1/history/verify")[1]["records"] >= 4
    then = json.loads(u.cli("history", "web", "--at", between, "--json").stdout)
    assert [r["release"] for r in then["ran"]] == ["web@1"]
    out = folder / "out"
    u.cli("history", "web", "--at", between, "--checkout", out)
    assert (out / "VERSION").read_text() == "one" or (out / "web" / "VERSION").read_text() == "one"


def test_a_second_serve_on_the_same_state_is_refused(serve):
    u = serve(apps.CONFIG)
    done = u.cli("serve", "-c", u.config, "--state", u.state, ok=False)
    assert done.returncode == 3 and str(u.process.pid) in done.stderr


def test_unknown_names_list_the_valid_ones(serve, tree):
    u = serve(apps.CONFIG)
    done = u.cli("deploy", "wob", tree("one", apps.files("one")), "--why", "x", ok=False)
    assert done.returncode == 2 and "web" in done.stderr
    done = u.cli("rollback", "web", "17", "--why", "x", ok=False)
    assert done.returncode == 2 and "17" in done.stderr


def test_everything_starts_again_after_the_keeper_was_killed(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    u.process.kill()
    u.process.wait()
    u.start()
    wait_for(lambda: u.app("web")["status"] == "good", "it serves again")
    assert u.get("/")[1].startswith("one 1 ")


def test_limits_tell_bound_use_and_overflow(serve):
    u = serve(apps.CONFIG)
    limits = {x["name"]: x for x in u.api("GET", "/v1/limits")[1]["limits"]}
    assert limits["web.hold.requests"]["bound"] == 1000
    assert {"bound", "used", "overflowed"} <= set(limits["clients"])


def test_output_of_instances_is_kept(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    wait_for(lambda: "listening" in u.cli("logs", "web").stdout, "their words are in the log")


def test_the_feed_tells_changes_and_moves_only_with_them(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    wait_for(lambda: u.app("web")["status"] == "good", "good")
    wait_for(lambda: "GOOD web" in u.get("/feeds/web.atom", port=u.admin)[1], "the feed says so")
    status, first, headers = u.get("/feeds/web.atom", port=u.admin)
    etag = headers.get("etag") or headers.get("ETag")
    assert status == 200 and etag and "web@1" in first
    again = u.get("/feeds/web.atom", port=u.admin, headers={"If-None-Match": etag})
    assert again[0] == 304 and again[1] == ""
    assert u.get("/feeds/web.rss", port=u.admin)[0] == 200
