#!/bin/sh
# The one entry point of the project. `./do` alone lists its verbs.
set -eu
cd "$(dirname "$0")"

# Debian packages, by what needs them. One list: nothing else names a package.
packages_build="gcc libc6-dev meson ninja-build pkg-config libsqlite3-dev libssl-dev libjansson-dev libyaml-dev
libxml2-dev libcurl4-openssl-dev libseccomp-dev libnghttp2-dev zlib1g-dev libc-ares-dev libcmocka-dev"
packages_demo="python3 python3-flask gunicorn newsboat"
packages_test="clang-14 python3-pytest python3-websockets python3-h11 curl git puma uwsgi-core uwsgi-plugin-python3 nginx-light
nodejs sqlite3 libxml2-utils mandoc codespell shellcheck redis-server python3-prometheus-client openssl
nghttp2-client python3-hpack jing sfeed rss2email python3-feedparser node-ws python3-aiohttp python3-httpx python3-h2
wget uacme pebble python3-grpcio monitoring-plugins-basic knot"
packages_full="chromium libclang-rt-14-dev llvm-14 valgrind cppcheck clang-tidy-14 clang-format-14"
packages_bench="haproxy nginx-light wrk procps openssl nghttp2-client python3-hpack python3-websockets"
packages_fresh="debootstrap git"

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

need() { # installs those of the packages that are missing, and says which
	missing=""
	for p in "$@"; do
		dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing="$missing $p"
	done
	[ -n "$missing" ] || return 0
	echo "installing from Debian:$missing"
	log=$(mktemp)
	# shellcheck disable=SC2086
	if ! { as_root apt-get update -q && as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -qy --no-install-recommends $missing; } >"$log" 2>&1; then
		cat "$log"
		echo "could not install:$missing" >&2
		exit 1
	fi
	rm -f "$log"
}

# promtool stands in a package of a server with a web page, 19 MB; what is wanted of it is one program.
need_promtool() {
	command -v promtool >/dev/null || [ -x build/tools/promtool ] || (
		echo "unpacking promtool from Debian's prometheus"
		mkdir -p build/tools
		cd build/tools
		apt-get download -q prometheus >promtool.log 2>&1 || { cat promtool.log; exit 1; }
		dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --strip-components=3 ./usr/bin/promtool
		rm -f prometheus_*.deb promtool.log
	)
}

build() { # build FOLDER [meson options]: configures once, then builds
	folder=$1
	shift
	if [ ! -f "$folder/build.ninja" ]; then
		meson setup "$folder" "$@" >"/tmp/upstate-setup.$$" 2>&1 || {
			cat "/tmp/upstate-setup.$$"
			exit 1
		}
		rm -f "/tmp/upstate-setup.$$"
	fi
	ninja -C "$folder" --quiet
}

passed=0
failed=0
count() { # count RESULTS: adds the figures of a meson or pytest run
	if grep -q '^Ok: ' "$1"; then
		p=$(sed -n 's/^Ok: *\([0-9]*\).*/\1/p' "$1" | tail -1)
		f=$(sed -n -e 's/^Fail: *\([0-9]*\).*/\1/p' "$1" | tail -1)
		t=$(sed -n -e 's/^Timeout: *\([0-9]*\).*/\1/p' "$1" | tail -1)
	else
		p=$(tail -1 "$1" | sed -n 's/.*\<\([0-9][0-9]*\) passed.*/\1/p')
		f=$(tail -1 "$1" | sed -n 's/.*\<\([0-9][0-9]*\) failed.*/\1/p')
		t=$(tail -1 "$1" | sed -n 's/.*\<\([0-9][0-9]*\) error.*/\1/p')
	fi
	passed=$((passed + ${p:-0}))
	failed=$((failed + ${f:-0} + ${t:-0}))
}

run_counted() { # run_counted NAME COMMAND...: shows the output of what fails
	name=$1
	shift
	out=build/$name.out
	echo "== $name"
	if "$@" >"$out" 2>&1; then
		count "$out"
		tail -1 "$out"
	else
		before=$failed
		count "$out"
		[ "$failed" -gt "$before" ] || failed=$((failed + 1))
		cat "$out"
	fi
}

check_texts() { # its caller looks at what it returns, so that set -e is off in here
	bad=0
	codespell -q 3 -L "crate,ot,te,ser,fo,inflight,ans,nd" --skip "build*,*.yaml.bad,corpus" README.md docs src test \
		bench examples || bad=1
	shellcheck -s sh "do" bench/fresh.sh test/unit/*.sh || bad=1
	mandoc -T lint -W warning build/upstate.1 build/upstate.yaml.5 || bad=1
	# Calls that have no place in a daemon. strtok and friends keep hidden state; system() a shell.
	if git grep -nE '\b(strcpy|strcat|sprintf|strtok|gmtime|localtime|system|atoi|gets)\(' -- 'src/*.c' 'src/*.h'; then
		echo "these calls are banned" >&2
		bad=1
	fi
	[ "$bad" = 0 ] || return 1
	echo "texts: 1 passed"
}

case "${1:-}" in
demo) # the guestbook under load: deployed, rolled back, crashed, recovered (under 3 minutes)
	# shellcheck disable=SC2086
	need $packages_build $packages_demo
	build build
	shift
	exec python3 examples/guestbook/demo.py "$@"
	;;
run) # the guestbook on http://127.0.0.1:8080, status on :8081, until Ctrl-C
	# shellcheck disable=SC2086
	need $packages_build $packages_demo
	build build
	shift
	exec python3 examples/guestbook/demo.py --run "$@"
	;;
build) # build/upstate
	# shellcheck disable=SC2086
	need $packages_build
	build build
	echo "build/upstate"
	;;
check) # within a minute: texts, banned calls, dependency rule, unit tests
	# shellcheck disable=SC2086
	need $packages_build $packages_test
	build build
	check_texts
	meson test -C build --no-rebuild --suite unit --print-errorlogs
	;;
test) # what CI runs: both compilers, sanitizers, unit, simulator, corpora, end to end
	# shellcheck disable=SC2086
	need $packages_build $packages_demo $packages_test
	need_promtool
	build build --werror
	CC=clang-14 build build-clang --werror
	build build-asan --werror -Db_sanitize=address,undefined
	run_counted texts check_texts
	run_counted plain meson test -C build --no-rebuild --print-errorlogs
	run_counted sanitized meson test -C build-asan --no-rebuild --print-errorlogs --no-suite sim --timeout-multiplier 4
	run_counted sanitized-whole env UPSTATE_BINARY="$PWD/build-asan/upstate" \
		/usr/bin/python3 -m pytest -q -p no:cacheprovider test/e2e/test_ship.py
	run_counted end-to-end /usr/bin/python3 -m pytest -q -p no:cacheprovider --ignore test/e2e/router --ignore test/e2e/keeper --ignore test/e2e/cli test/e2e
	echo "$passed passed, $failed failed"
	[ "$failed" = 0 ]
	;;
full) # hours: fuzzers (10 minutes each), threads, leaks, more seeds, 5 GB bodies, demo five times, 100 deploys
	# shellcheck disable=SC2086
	need $packages_build $packages_demo $packages_test $packages_full
	"$0" test
	CC=clang-14 build build-fuzz -Dfuzz=true -Db_sanitize=address,undefined
	for f in build-fuzz/test/fuzz/fuzz_*[!p]; do
		if [ ! -x "$f" ] || [ ! -f "$f" ]; then continue; fi
		name=${f##*/fuzz_}
		mkdir -p "build-fuzz/corpus/$name"
		"$f" -max_total_time="${FUZZ_SECONDS:-600}" -rss_limit_mb=4096 -artifact_prefix="build-fuzz/" \
			"build-fuzz/corpus/$name" "test/fuzz/corpus/$name" >"build-fuzz/$name.log" 2>&1 || {
			tail -30 "build-fuzz/$name.log"
			exit 1
		}
		echo "fuzzed $name"
	done
	build build-tsan -Db_sanitize=thread
	meson test -C build-tsan --no-rebuild --suite unit --print-errorlogs --timeout-multiplier 10
	build/test/sim/sim --seeds 300000
	/usr/bin/python3 -m pytest -q -p no:cacheprovider --ignore test/e2e/router --ignore test/e2e/keeper --ignore test/e2e/cli test/e2e --full
	for _ in 1 2 3 4 5; do "$0" demo; done
	;;
tools) # build/tools: what tests need one program of, out of a large package
	need_promtool
	;;
bench) # beside nginx and HAProxy, in one run; writes bench/RESULTS.md. bench NAME: only bench/NAME
	# shellcheck disable=SC2086
	need $packages_build $packages_demo $packages_bench
	build build-bench --buildtype=release
	shift
	[ $# -gt 0 ] || set -- run hostile faults changes
	for name in "$@"; do python3 "bench/$name"; done
	;;
fresh) # a clean Debian 12 in a folder, the committed tree in it, the README's two commands there
	# shellcheck disable=SC2086
	need $packages_fresh
	shift
	exec sh bench/fresh.sh "$@"
	;;
*)
	echo "usage: ./do VERB"
	sed -n 's/^\([a-z]*\)) # \(.*\)/  \1	\2/p' "$0"
	exit 2
	;;
esac
