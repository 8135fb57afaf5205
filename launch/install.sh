#!/bin/sh
# install.sh [slurm] - installs the Debian packages that plumb needs to build and to run its tests.
# Lists the missing packages. As root it installs them; otherwise it prints the command to run and
# fails. With the word slurm it also installs Slurm, which only tests/slurm uses. These tests start
# a Slurm of their own, so Slurm needs no configuration.
set -eu

packages="gcc g++ pkg-config meson ninja-build python3
    libjansson-dev libfyaml-dev libpcre2-dev libutf8proc-dev libxxhash-dev zlib1g-dev libhdf5-dev
    libhwloc-dev hdf5-tools libopenmpi-dev openmpi-bin xz-utils"

case ${1:-} in
slurm) packages="$packages slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge iproute2 util-linux" ;;
'') ;;
*)
    echo "install.sh: unknown word '$1'; expected slurm or nothing" >&2
    exit 2
    ;;
esac

missing=
for p in $packages; do
    case $(dpkg-query -W -f '${Status}' "$p" 2>/dev/null) in
    *"install ok installed") ;;
    *) missing="$missing $p" ;;
    esac
done
if [ -z "$missing" ]; then
    echo "install: all packages are already installed"
    exit 0
fi
echo "install: missing packages:$missing"
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        exec sudo -n "$0" "$@"
    fi
    echo "install: you are not root; please run:" >&2
    echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing" >&2
    exit 1
fi
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/tmp/plumb-install.log 2>&1 || {
    tail -n 20 /tmp/plumb-install.log >&2
    echo "install: apt-get failed; the complete output is in /tmp/plumb-install.log" >&2
    exit 1
}
echo "install: done"
