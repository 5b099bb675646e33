# SPDX-License-Identifier: Apache-2.0
"""Servers that no one here wrote, as they come: deployed, rolled back and killed under load, and no GET fails."""

import json

import pytest

import servers
from load import assert_agree, assert_no_failure, load
from upstate import wait_for

RATE = 100


def version(u):
    status, body, _ = u.get("/version")
    return status, body


@pytest.mark.parametrize("name", servers.SERVERS)
def test_a_server_is_replaced_rolled_back_and_killed_under_load(serve, tree, name):
    u = serve(servers.config(name))
    u.deploy("web", tree("one", servers.files(name, "one")))
    assert version(u) == (200, "one")
    with load(u.port, rate=RATE) as client:
        with client.step("deploy") as seen:
            receipt = u.deploy("web", tree("two", servers.files(name, "two")))
        assert receipt["outcome"] == "done" and version(u) == (200, "two")
        assert_no_failure(seen)
        assert_agree(seen, receipt, RATE)

        with client.step("rollback") as seen:
            receipt = json.loads(u.cli("rollback", "web", "--why", "a test", "--json").stdout)
        assert receipt["outcome"] == "done" and version(u) == (200, "one")
        assert_no_failure(seen)
        assert_agree(seen, receipt, RATE)

        before = u.app("web")
        victim = before["instances"][0]
        with client.step("kill") as seen:
            client.kill(victim["pid"])
            wait_for(lambda: is_back(u, victim), "the killed instance serves again", 30)
            client.more(20)
        assert_no_failure(seen, at_least=20)

        after = u.app("web")
        assert after["failed"] == before["failed"]
        assert after["requests"] - before["requests"] >= seen["requests"]
        assert version(u) == (200, "one")

        # A worker process alone: its main process starts another one, the instance stays.
        survivor = next(i for i in after["instances"] if i["name"] != victim["name"])
        workers = children(survivor["pid"])
        if workers:
            with client.step("kill a worker") as seen:
                client.kill(workers[0])
                wait_for(lambda: has_replaced(survivor["pid"], workers[0], len(workers)), "a new worker is there")
                client.more(20)
            assert_no_failure(seen, at_least=20)
            assert u.app("web")["failed"] == before["failed"]
            assert survivor["pid"] in [i["pid"] for i in u.app("web")["instances"]]



def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(child) for child in f.read().split()]


def has_replaced(parent, killed, count):
    now = children(parent)
    return killed not in now and len(now) >= count


def is_back(u, victim):
    app = u.app("web")
    new = [i for i in app["instances"] if i["name"] == victim["name"]]
    return app["status"] == "good" and new and new[0]["pid"] not in (0, victim["pid"])
