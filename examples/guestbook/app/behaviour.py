# SPDX-License-Identifier: Apache-2.0
"""How this release misbehaves: not at all. `release` puts another file here for versions that do."""


def install(app):
    pass
