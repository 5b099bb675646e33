"""Configurations that cannot be taken up, and controllers that start meanwhile."""

import os
import signal
import socket

import apps
from upstate import wait_for


def new_controller(u):
    pid = u.parts()["controller"]["pid"]
    os.kill(pid, signal.SIGKILL)

    def is_back():
        try:
            return u.parts()["controller"]["pid"] not in (0, pid)
        except OSError:
            return False

    wait_for(is_back, "a new controller answers")


def test_a_new_controller_works_on_when_the_file_wants_an_address_that_is_taken(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        more = '{ http: "127.0.0.1:%d" }, { http' % taken.getsockname()[1]
        u.configure(apps.CONFIG.replace("{ http", more, 1))
        refused = u.cli("reload", ok=False)
        assert refused.returncode != 0 and "cannot listen" in refused.stderr, refused
        new_controller(u)
        assert u.get("/")[0] == 200
        u.deploy("web", tree("two", apps.files("two")))
    # The address is free now, and asked for again.
    wait_for(lambda: u.cli("reload", ok=False).returncode == 0, "the file is taken up")


def test_warnings_of_the_file_are_told_by_a_reload(serve):
    two = apps.CONFIG + "    data: d\n  other: { hosts: [o.localhost], run: ./x, data: d }\n"
    u = serve(two)
    status, answer = u.api("POST", "/v1/reload", {})[:2]
    assert status == 200 and any("shares its data directory" in w for w in answer["warnings"]), answer


def test_what_left_the_configuration_leaves_the_feed(serve):
    u = serve(apps.CONFIG + "  other: { hosts: [o.localhost], targets: ['127.0.0.1:9', '127.0.0.1:10'] }\n")

    def feed():
        return u.get("/feeds/all.atom", port=u.admin)[1]

    wait_for(lambda: "other/127.0.0.1:10" in feed() and "web/2" in feed(), "all devices are told")
    u.configure(apps.CONFIG.replace("instances: 2", "instances: 1")
                + "  other: { hosts: [o.localhost], targets: ['127.0.0.1:9'] }\n")
    u.cli("reload")
    wait_for(lambda: "other/127.0.0.1:10" not in feed() and "web/2" not in feed(), "those that are no more are gone")
    assert "other/127.0.0.1:9" in feed() and "web/1" in feed()
