#!/bin/bash
# Installs the Debian packages of the peers that `compare` measures beside Shunt, and only those
# missing: install-peers.sh SUITE. With nothing missing it needs neither root nor a network.
set -euo pipefail

case "${1:-}" in
fib) packages="gcc libc6-dev pkg-config dpdk-dev libdpdk-dev" ;;
cni) packages="containernetworking-plugins containerd runc busybox-static" ;;
*)
    echo "usage: $0 fib|cni" >&2
    exit 2
    ;;
esac

missing=()
for package in $packages; do
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
"$(dirname "$0")/apt-install.sh" "${missing[@]}"
