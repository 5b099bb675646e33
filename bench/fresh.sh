#!/bin/sh
# Makes a clean Debian 12 in a folder, from the mirror that this machine's own apt uses, puts the
# committed tree into it and runs the README's two commands there.
set -eu
folder=${1:-/tmp/upstate-fresh}
[ "$(id -u)" = 0 ] || { echo "fresh needs root: debootstrap and chroot" >&2; exit 2; }
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' | head -1)
[ -n "$mirror" ] || { echo "apt on this machine has no source for bookworm" >&2; exit 1; }

cleanup() {
	for m in proc sys dev/pts dev/shm dev; do umount -l "$folder/$m" 2>/dev/null || :; done
}
trap cleanup EXIT INT TERM
cleanup
if [ ! -f "$folder/.debootstrapped" ]; then
	rm -rf "$folder"
	debootstrap --variant=minbase --include=ca-certificates bookworm "$folder" "$mirror" >"/tmp/fresh-debootstrap.log" 2>&1 ||
		{ tail -20 /tmp/fresh-debootstrap.log; exit 1; }
	touch "$folder/.debootstrapped"
fi
# apt in there reaches its mirror as this machine's does.
cp -a /etc/apt/. "$folder/etc/apt/"
[ -d /etc/ssl ] && cp -a /etc/ssl/. "$folder/etc/ssl/"
[ -d /usr/local/share/ca-certificates ] && mkdir -p "$folder/usr/local/share" &&
	cp -a /usr/local/share/ca-certificates "$folder/usr/local/share/"
for f in /etc/resolv.conf /etc/hosts; do [ -e "$f" ] && cp -L "$f" "$folder$f"; done
rm -rf "$folder/root/upstate"
git clone -q . "$folder/root/upstate"
mount -t proc proc "$folder/proc"
mount -t sysfs sys "$folder/sys" || :
mount --rbind /dev "$folder/dev"
env -i HOME=/root TERM="${TERM:-dumb}" PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
	$(env | grep -E '^(https?|no|HTTPS?|NO)_(proxy|PROXY)=' || :) \
	chroot "$folder" sh -c 'cd /root/upstate && ./do demo && ./do test'
