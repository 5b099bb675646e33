# SPDX-License-Identifier: Apache-2.0
"""This release becomes ready, serves for a moment, then its workers die, and gunicorn with them.

A worker dies between two requests, with the status 3 that makes gunicorn give up (with any other
it would start a new worker). So the app itself breaks no answer: whatever a user notices, the one
before the app did.
"""
import os
import time

LIFE_S = 0.7


class Crashing:
    def __init__(self, inner):
        self.inner = inner
        self.dies_at = None

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] != "/up" and self.dies_at is None:
            self.dies_at = time.monotonic() + LIFE_S
        return Answer(self.inner(environ, start_response), self)

    def answered(self):
        if self.dies_at and time.monotonic() > self.dies_at:
            print("guestbook: the cache is corrupt, giving up", flush=True)
            os._exit(3)


class Answer:
    """gunicorn closes it when the last byte was written."""

    def __init__(self, parts, crashing):
        self.parts = parts
        self.crashing = crashing

    def __iter__(self):
        return iter(self.parts)

    def close(self):
        if hasattr(self.parts, "close"):
            self.parts.close()
        self.crashing.answered()


def install(app):
    app.wsgi_app = Crashing(app.wsgi_app)
