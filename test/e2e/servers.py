# SPDX-License-Identifier: Apache-2.0
"""Servers that no one here wrote, each with the smallest app that it serves.

Every app answers the same to every version at /, so that a load client can compare, and with its
version at /version. SERVERS: name -> (files of a release, what its configuration says beside that).
"""

WSGI = '''
import pathlib

VERSION = pathlib.Path(__file__).with_name("VERSION").read_bytes()


def app(environ, start_response):
    body = VERSION if environ["PATH_INFO"] == "/version" else b"the same for everyone\\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
'''

RACK = '''
VERSION = File.read(File.join(__dir__, "VERSION"))
run lambda { |env|
  body = env["PATH_INFO"] == "/version" ? VERSION : "the same for everyone\\n"
  [200, {"Content-Type" => "text/plain"}, [body]]
}
'''

NODE = '''
const fs = require("fs"), http = require("http"), path = require("path");
const version = fs.readFileSync(path.join(__dirname, "VERSION"));
http.createServer((request, response) => {
  response.end(request.url === "/version" ? version : "the same for everyone\\n");
}).listen(process.env.PORT, "127.0.0.1");
'''

NGINX = '''
daemon off;
worker_processes 2;
pid @TMP@/nginx.pid;
error_log stderr warn;
events {}
http {
  access_log off;
  client_body_temp_path @TMP@/body;
  proxy_temp_path @TMP@/proxy;
  fastcgi_temp_path @TMP@/fastcgi;
  uwsgi_temp_path @TMP@/uwsgi;
  scgi_temp_path @TMP@/scgi;
  default_type text/plain;
  server {
    listen unix:@SOCKET@;
    location = /version { root @DIR@; try_files /VERSION =404; }
    location / { return 200 "the same for everyone\\n"; }
  }
}
'''

# nginx reads no environment: what it has to know is written into its configuration.
NGINX_START = '''#!/bin/sh
set -eu
sed -e "s|@SOCKET@|$1|" -e "s|@TMP@|$TMPDIR|" -e "s|@DIR@|$PWD|" nginx.conf.in >"$TMPDIR/nginx.conf"
exec nginx -e stderr -c "$TMPDIR/nginx.conf"
'''

SERVERS = {
    "gunicorn-sync": (
        {"app.py": WSGI}, "run: exec gunicorn --workers 2 --bind unix:$UPSTATE_SOCKET app:app"),
    "gunicorn-sync-port": (
        {"app.py": WSGI}, "run: exec gunicorn --workers 2 --bind 127.0.0.1:$PORT app:app"),
    "gunicorn-threads": (
        {"app.py": WSGI}, "run: exec gunicorn --threads 4 --bind unix:$UPSTATE_SOCKET app:app"),
    "gunicorn-threads-port": (
        {"app.py": WSGI}, "run: exec gunicorn --threads 4 --bind 127.0.0.1:$PORT app:app"),
    "puma": (
        {"config.ru": RACK}, "run: exec puma --environment production --bind unix://$UPSTATE_SOCKET"),
    "node": (
        {"app.js": NODE}, "run: exec node app.js"),
    "uwsgi": (  # TERM is "reload" to it
        {"app.py": WSGI}, "stop: INT\n    run: exec uwsgi --plugin python3 --master --processes 2 --need-app "
        "--http-socket $UPSTATE_SOCKET --wsgi-file app.py --callable app"),
    "nginx": (
        {"nginx.conf.in": NGINX, "start": NGINX_START}, "stop: QUIT\n    run: exec ./start $UPSTATE_SOCKET"),
}

CONFIG = """
listen: [ {{ http: "127.0.0.1:{{port}}" }} ]
admin: {{ http: "127.0.0.1:{{admin}}" }}
apps:
  web:
    hosts: ["*"]
    {how}
    instances: 2
    health: {{ path: /up, every: 200ms }}
    bake: 300ms
    drain: 5s
    ready: {{ within: 20s }}
"""


def config(name):
    return CONFIG.format(how=SERVERS[name][1])


def files(name, version):
    return dict(SERVERS[name][0], VERSION=version)
