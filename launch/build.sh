#!/bin/sh
# build.sh [BUILD_DIR] [-MESON_OPTION...] [TARGET...] - configures BUILD_DIR (default: build) if it
# is not configured yet, and builds the targets (default: all).
set -eu
cd "$(dirname "$0")/.."
dir=${1:-build}
[ $# -gt 0 ] && shift
options='' targets=''
for a in "$@"; do
    case $a in
    -*) options="$options $a" ;;
    *) targets="$targets $a" ;;
    esac
done
if [ ! -f "$dir/build.ninja" ]; then
    # shellcheck disable=SC2086
    meson setup "$dir" $options >"$dir.log" 2>&1 || { cat "$dir.log"; rm -rf "$dir"; exit 1; }
    rm -f "$dir.log"
fi
log=$dir/ninja.out
# shellcheck disable=SC2086
ninja -C "$dir" $targets >"$log" 2>&1 || { tail -n 40 "$log"; exit 1; }
tail -n 1 "$log"
