#!/bin/bash
# Installs the Debian packages it is given: apt-install.sh PACKAGE... Needs root.
set -euo pipefail

if [ "$(id -u)" -ne 0 ]; then
    echo "missing packages: as root, run: apt-get install $*" >&2
    exit 1
fi
echo "installing $*" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@" >/dev/null
