#!/bin/bash
# Installs the Debian packages that building, testing and the demo need, and only those missing.
# With nothing missing it needs neither root nor a network.
set -euo pipefail

# What must be there, a program or a path, and the package that brings it.
wanted="
cc gcc
/usr/include/stdio.h libc6-dev
make make
ip iproute2
bridge iproute2
setpriv util-linux
ping iputils-ping
tcpdump tcpdump
tshark tshark
ethtool ethtool
nft nftables
curl curl
nft nftables
iptables iptables
conntrack conntrack
tracepath iputils-tracepath
traceroute traceroute
ndisc6 ndisc6
arping iputils-arping
iperf3 iperf3
scapy python3-scapy
xz xz-utils
/usr/bin/python3 python3
linux.uml user-mode-linux
busybox busybox-static
/usr/lib/cni/host-local containernetworking-plugins
containerd containerd
runc runc
podman podman
"

missing=()
while read -r what package; do
    [ -n "$what" ] || continue
    command -v "$what" >/dev/null || [[ $what == /* && -e $what ]] || missing+=("$package")
done <<<"$wanted"

if ! command -v cargo >/dev/null && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
    echo "Rust is missing: install the stable toolchain, then run this again" >&2
    exit 1
fi
[ ${#missing[@]} -gt 0 ] || exit 0
"$(dirname "$0")/apt-install.sh" "${missing[@]}"
