#!/bin/sh
# build.sh [BUILD_DIR] [MESON_OPTION...] - configures once and builds; sourced by nobody, called by all.
set -eu
cd "$(dirname "$0")/.."
dir=${1:-build}
[ $# -gt 0 ] && shift
if [ ! -f "$dir/build.ninja" ]; then
    meson setup "$dir" "$@" >"$dir.log" 2>&1 || { cat "$dir.log"; rm -rf "$dir"; exit 1; }
    rm -f "$dir.log"
fi
ninja -C "$dir" | tail -n 1
