# SPDX-License-Identifier: Apache-2.0
"""Pebble, the ACME server for tests from Let's Encrypt, and the names it looks up."""

import json
import os
import pathlib
import shutil
import subprocess

from upstate import free_port, wait_for

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def openssl(*args):
    return subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True).stdout.decode()


class Pebble:
    """Asks at 127.0.0.1:http for every name. What it has issued is gone when it ends."""

    def __init__(self, folder, http, life=90 * 86400):
        for tool in ("pebble", "pebble-challtestsrv", "uacme"):
            assert shutil.which(tool), f"{tool} is not installed; ./do test does that"
        self.folder, self.processes = pathlib.Path(folder), []
        self.folder.mkdir(exist_ok=True)
        self.port, self.dns, self.log = free_port(), free_port(), self.folder / "pebble.log"
        self.url = f"https://localhost:{self.port}/dir"
        key, pem = self.folder / "ca.key", self.folder / "ca.pem"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out",
                pem, "-days", 9, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
        self.bundle = self.folder / "bundle.pem"
        self.bundle.write_text(pathlib.Path(BUNDLE).read_text() + pem.read_text())
        self.config = self.folder / "pebble.json"
        self.config.write_text(json.dumps({"pebble": {
            "listenAddress": f"127.0.0.1:{self.port}", "managementListenAddress": f"127.0.0.1:{free_port()}",
            "certificate": str(pem), "privateKey": str(key), "httpPort": http, "tlsPort": free_port(),
            "certificateValidityPeriod": life}}))
        # uacme trusts what the machine trusts: so it is run where that is one authority more.
        self.wrap = ["unshare", "-m", "sh", "-c", f'mount --bind {self.bundle} {BUNDLE} && exec "$@"', "sh"]
        self.run("pebble-challtestsrv", "-dns01", f"127.0.0.1:{self.dns}", "-http01", "", "-https01", "", "-tlsalpn01", "",
                 "-management", f"127.0.0.1:{free_port()}", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "")
        self.start()

    def run(self, *argv):
        env = dict(os.environ, PEBBLE_VA_NOSLEEP="1", PEBBLE_WFE_NONCEREJECT="0")
        with open(self.log, "a") as log:
            self.processes.append(subprocess.Popen(argv, stdout=log, stderr=log, env=env))

    def answers(self):
        done = subprocess.run(["curl", "-s", "--cacert", self.folder / "ca.pem", self.url], capture_output=True)
        assert all(p.poll() is None for p in self.processes), self.log.read_text()
        return done.returncode == 0

    def start(self):
        self.run("pebble", "-config", str(self.config), "-dnsserver", f"127.0.0.1:{self.dns}")
        wait_for(self.answers, "pebble answers")

    def stop(self):
        """It alone; names are still found."""
        p = self.processes.pop()
        p.kill()
        p.wait()

    def close(self):
        while self.processes:
            self.stop()
