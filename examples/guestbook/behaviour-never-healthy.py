# SPDX-License-Identifier: Apache-2.0
"""This release starts, but is never healthy."""


def install(app):
    app.view_functions["up"] = lambda: ("the new database schema is missing\n", 500)
