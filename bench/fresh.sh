#!/bin/sh
# The README's two commands, on a Debian 12 where nothing was ever installed.
#
# FOLDER/base is debootstrapped once, from the mirror that this machine's own apt uses, and stays as it
# is; each run copies it to FOLDER/root, clones the committed tree into it, and starts the commands
# there, so that a package missing from the lists of `./do` is found each time. FOLDER/debs keeps what
# apt fetched.
#
# All mounts are made in a mount namespace of their own and all processes run in a process namespace:
# however the run ends, Ctrl-C and SIGKILL included, the kernel takes both away, and nothing of this
# machine can be unmounted by mistake.
set -eu
folder=${1:-/tmp/upstate-fresh}
[ "$(id -u)" = 0 ] || {
	echo "fresh needs root, for debootstrap, mount and chroot: sudo ./do fresh" >&2
	exit 2
}

if [ "${2:-}" != --inside ]; then
	mkdir -p "$folder"
	folder=$(cd "$folder" && pwd)
	# In the background, so that the trap below is served at once; with that, a shell makes its child
	# deaf to SIGINT, which the tests of Ctrl-C would inherit.
	unshare --mount --propagation private --pid --fork --kill-child \
		env --default-signal=INT,QUIT sh "$0" "$folder" --inside &
	inside=$!
	trap 'kill -KILL $inside 2>/dev/null || :; exit 130' INT TERM HUP
	wait $inside
	exit
fi

base=$folder/base
root=$folder/root
if [ ! -f "$base.done" ]; then
	# shellcheck disable=SC2016 # these are fields of apt's
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' | head -n 1)
	[ -n "$mirror" ] || {
		echo "apt on this machine has no source for bookworm (/etc/apt/sources.list.d)" >&2
		exit 1
	}
	echo "debootstrap into $base"
	rm -rf "$base"
	debootstrap --variant=minbase --include=ca-certificates bookworm "$base" "$mirror" \
		>"$folder/debootstrap.log" 2>&1 || {
		tail -n 20 "$folder/debootstrap.log"
		exit 1
	}
	touch "$base.done"
fi
rm -rf "$root"
cp -a "$base" "$root"

# apt in there reaches its mirror as this machine's does: its sources, keys, proxies, certificates.
for f in sources.list sources.list.d trusted.gpg.d keyrings auth.conf auth.conf.d; do
	[ ! -e "/etc/apt/$f" ] || cp -a "/etc/apt/$f" "$root/etc/apt/"
done
apt-config dump | grep -E '^Acquire::(https?|Check|Retries)' >"$root/etc/apt/apt.conf.d/90host" || :
cp -a /usr/share/keyrings/. "$root/usr/share/keyrings/"
cp -a /etc/ssl/certs/. "$root/etc/ssl/certs/"
for d in /usr/share/ca-certificates /usr/local/share/ca-certificates; do
	[ ! -d "$d" ] || cp -a "$d/." "$root$d/"
done
for f in /etc/resolv.conf /etc/hosts; do
	[ ! -e "$f" ] || cp -L "$f" "$root$f"
done
git clone -q . "$root/root/upstate"

# A mount point of its own, so that "/" in there can be given a propagation, as on any machine.
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys" || echo "no /sys in there: going on without"
mount --rbind /dev "$root/dev"
mkdir -p "$folder/debs"
mount --bind "$folder/debs" "$root/var/cache/apt/archives"

in_root() {
	# shellcheck disable=SC2046 # a proxy's address has no spaces
	env -i HOME=/root TERM="${TERM:-dumb}" PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
		$(env | grep -E '^(https?|no|HTTPS?|NO)_(proxy|PROXY)=' || :) \
		chroot "$root" sh -c "cd /root/upstate && $1"
}
for command in "./do demo" "./do test"; do
	echo "fresh Debian: $command"
	started=$(date +%s)
	in_root "$command"
	echo "fresh Debian: $command passed in $(($(date +%s) - started)) s"
done
