#!/usr/bin/env bash
# Debian 13's Orthanc for `make bench` where this machine is another system: its files under .cache/bench/debian, which
# bench/servers/orthanc.py starts with their own loader. As root on Debian; nothing of the machine is changed.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=.cache/bench/debian
packages='orthanc orthanc-dicomweb orthanc-postgresql'

[ ! -e "$root/.complete" ] || exit 0
if grep -q '^VERSION_CODENAME=trixie' /etc/os-release; then
    echo "This is Debian 13: apt install $packages" >&2
    exit 0
fi
[ "$(id -u)" = 0 ] || { echo "needs root; without it the measurements take this machine's own Orthanc" >&2; exit 1; }
command -v debootstrap >/dev/null || apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | awk '!/security/ && !n++')
rm -rf "$root"
mkdir -p "$(dirname "$root")"
debootstrap --variant=minbase trixie "$root" "$mirror" >/dev/null
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" && chmod 755 "$root/usr/sbin/policy-rc.d"
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -y -qq --no-install-recommends $packages >/dev/null
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
touch "$root/.complete"
