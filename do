#!/bin/sh
# The one entry point. `./do` alone lists the verbs.
set -eu
cd "$(dirname "$0")"

packages_build="gcc clang meson ninja-build pkg-config libsqlite3-dev libssl-dev libjansson-dev libyaml-dev
 libxml2-dev libcurl4-openssl-dev libseccomp-dev libcmocka-dev"
packages_demo="python3-flask gunicorn newsboat"
packages_test="python3-pytest curl puma uwsgi-core uwsgi-plugin-python3 nginx-light nodejs sqlite3 mandoc codespell
 shellcheck clang-format-14 libclang-rt-14-dev libfiu-dev fiu-utils git python3-websockets"
packages_bench="haproxy nginx-light wrk"

need() { # installs those of the packages that are missing
	missing=""
	for p in "$@"; do
		dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -q '^installed' || missing="$missing $p"
	done
	[ -n "$missing" ] || return 0
	echo "installing:$missing"
	sudo=""
	[ "$(id -u)" = 0 ] || sudo="sudo"
	$sudo apt-get update -q >/dev/null
	# shellcheck disable=SC2086
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing >/dev/null
}

build() { # build DIRECTORY [meson options]
	dir=$1
	shift
	[ -f "$dir/build.ninja" ] || meson setup "$dir" "$@" >/dev/null
	ninja -C "$dir" --quiet
}

case "${1:-}" in
build)
	need $packages_build
	build build
	echo "build/upstate"
	;;
*)
	sed -n 's/^\([a-z]*\)) *# \(.*\)/\1  \2/p' "$0"
	exit 2
	;;
esac
