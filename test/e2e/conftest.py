import pathlib
import shutil
import tempfile

import pytest

import upstate


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="also what takes minutes")


@pytest.fixture
def folder():
    """A short path (unix sockets), removed afterwards."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="up-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def serve(folder):
    """serve(config) -> Upstate; everything it started is ended afterwards."""
    running = []

    def start(config, **more):
        u = upstate.Upstate(folder / f"u{len(running)}", config, **more)
        running.append(u)
        return u

    yield start
    for u in running:
        u.stop()
    for u in running:
        for word in ("Sanitizer", "runtime error:", "bug: '"):
            text = u.log.read_text() if u.log.exists() else ""
            assert word not in text, text


@pytest.fixture
def tree(folder):
    """tree(name, {path: text}) -> a folder with these files; +x for those that begin with #!."""

    def make(name, files):
        root = folder / name
        for path, text in files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            if text.startswith("#!"):
                target.chmod(0o755)
        return root

    return make
