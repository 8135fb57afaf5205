#!/bin/sh
# dist.sh [SUITE]... - makes the release archive of the last commit with `meson dist`, and tests it.
# Unpacks the archive in a temporary folder, builds it with warnings as errors, runs the test suites
# (default: base config io lint align text), installs it with DESTDIR and runs the installed
# program.
set -eu
source=$(cd "$(dirname "$0")/../.." && pwd)
[ $# -gt 0 ] || set -- base config io lint align text
folder=$(mktemp -d "${TMPDIR:-/tmp}/plumb-dist.XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
git clone -q "$source" "$folder/source"
meson setup "$folder/build" "$folder/source" -Demulator=disabled >/dev/null
meson dist -C "$folder/build" --no-tests --formats gztar >"$folder/dist.log" 2>&1 || { cat "$folder/dist.log"; exit 1; }
archive=$(ls "$folder"/build/meson-dist/plumb-*.tar.gz)
mkdir "$folder/unpacked"
tar -xzf "$archive" -C "$folder/unpacked"
cd "$folder"/unpacked/plumb-*
meson setup build --werror -Demulator=disabled --prefix=/usr >/dev/null
ninja -C build >"$folder/ninja.log" 2>&1 || { tail -n 40 "$folder/ninja.log"; exit 1; }
suites=
for suite in "$@"; do
    suites="$suites --suite $suite"
done
# shellcheck disable=SC2086
meson test -C build --no-rebuild --print-errorlogs $suites
DESTDIR=$folder/root meson install -C build --no-rebuild >/dev/null
cd /
"$folder/root/usr/bin/plumb" doctor threads=1 | grep 'installed files' | grep "$folder/root/usr/share/plumb"
echo "dist: $(basename "$archive"): $(tar -tzf "$archive" | wc -l) entries, suites $*: ok"
