# SPDX-License-Identifier: Apache-2.0
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from h2_target import H2Target  # noqa: E402
from router_kit import Bytes, Router, Target  # noqa: E402


@pytest.fixture
def target(tmp_path):
    """Makes targets; they are stopped afterwards. By default on unix sockets."""
    made = []

    def make(handler=None, tcp=False, kind=Target, **more):
        path = None if tcp else str(tmp_path / ("s%d" % len(made)))
        made.append(kind(handler, unix=path, **more))
        return made[-1]

    yield make
    for t in made:
        t.stop()


@pytest.fixture
def router():
    """Makes routers; each must end in order, and without a word from a sanitizer."""
    made = []

    def make(table):
        made.append(Router(table))
        return made[-1]

    yield make
    for r in made:
        r.close()


@pytest.fixture
def serve(router, target):
    """One app with one target: (router, target)."""

    def make(handler=None, app="", tcp=False, more=""):
        t = target(handler, tcp=tcp)
        r = router("%s\napp a %s\ntarget a/1 %s\n" % (more, app, t.addr))
        r.until("a/1", "state", 1)
        return r, t

    return make


@pytest.fixture
def recorded(router, tmp_path):
    """A router and a target that keeps every byte: recorded() -> (router, Bytes)."""
    made = []

    def make():
        b = Bytes(str(tmp_path / "bytes"))
        made.append(b)
        r = router("threads 1\napp a\ntarget a/1 %s\n" % b.addr)
        r.until("a/1", "state", 1)
        return r, b

    yield make
    for b in made:
        b.close()


@pytest.fixture
def serve_h2(router, target):
    """One app with one target that speaks HTTP/2: (router, target)."""

    def make(handler=None, app="", tcp=False, more="", **target_more):
        t = target(handler, tcp=tcp, kind=H2Target, **target_more)
        r = router("%s\napp a h2=1 %s\ntarget a/1 %s\n" % (more, app, t.addr))
        r.until("a/1", "state", 1)
        return r, t

    return make
