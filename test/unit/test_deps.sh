#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The dependency rule of docs/ARCHITECTURE.md: a folder of src/ includes only itself and what stands
# before it. Prints FILE:LINE for each include that breaks it.
#
#	test_deps.sh ROOT            checks ROOT/src
#	test_deps.sh --self-test     proves that a breach would be seen
set -eu

# What each folder may include beside itself. A folder that is not listed here may include nothing.
may_include()
{
	case $1 in
	base) echo ;;
	core | loop) echo base ;;
	wire) echo base core loop ;;
	conf | state) echo base core loop wire ;;
	files) echo base core loop wire ;;
	keep | route | logger | watch | ship) echo base core loop wire conf state ;;
	tell) echo base core loop wire conf state ship ;;
	control) echo base core loop wire conf state keep route logger watch ship tell ;;
	cli) echo base core loop wire conf state keep route logger watch files ship tell control ;;
	.) echo base core loop wire conf state keep route logger watch files ship tell control cli ;;
	*) echo ;;
	esac
}

# Prints the breaches in the tree $1.
breaches()
{
	(
		cd "$1/src"
		grep -rnE --include='*.c' --include='*.h' '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' . || :
	) | sed 's|^\./||' | while IFS=: read -r file line text; do
		case $file in
		*/*) folder=${file%%/*} ;;
		*) folder=. ;;
		esac
		header=$(printf '%s\n' "$text" | sed 's/^[^"]*"\([^"]*\)".*/\1/')
		case $header in
		*..*)
			echo "src/$file:$line: \"$header\" is not named from src/"
			continue
			;;
		*/*) other=${header%%/*} ;;
		*)
			echo "src/$file:$line: \"$header\" does not say its folder"
			continue
			;;
		esac
		[ "$other" = "$folder" ] && continue
		case " $(may_include "$folder") " in
		*" $other "*) ;;
		*) echo "src/$file:$line: $folder may not include \"$header\"" ;;
		esac
	done
}

self_test()
{
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
	mkdir -p "$dir/src/core" "$dir/src/tell" "$dir/src/new"
	printf '#include <stdio.h>\n#include "base/util.h"\n#include "core/x.h"\n' >"$dir/src/core/good.c"
	printf '#include "ship/store.h"\n' >"$dir/src/tell/good.c"
	printf '#include "cli/cli.h"\n' >"$dir/src/main.c"
	[ -z "$(breaches "$dir")" ] || { echo "a good tree was refused"; breaches "$dir"; exit 1; }
	printf '\n  # include "loop/loop.h"\n' >"$dir/src/core/a.c"
	printf '#include "route/router.h"\n' >"$dir/src/tell/b.h"
	printf '#include "base/util.h"\n#include "x.h"\n#include "../base/y.h"\n' >"$dir/src/new/c.c"
	want='src/core/a.c:2: core may not include "loop/loop.h"
src/new/c.c:1: new may not include "base/util.h"
src/new/c.c:2: "x.h" does not say its folder
src/new/c.c:3: "../base/y.h" is not named from src/
src/tell/b.h:1: tell may not include "route/router.h"'
	got=$(breaches "$dir" | LC_ALL=C sort)
	[ "$got" = "$want" ] || { printf 'expected:\n%s\ngot:\n%s\n' "$want" "$got"; exit 1; }
}

if [ "${1:-}" = --self-test ]; then
	self_test
	exit 0
fi
found=$(breaches "${1:-.}")
[ -z "$found" ] && exit 0
printf '%s\n' "$found"
echo "The rule stands in docs/ARCHITECTURE.md, \"The dependency rule\"."
exit 1
