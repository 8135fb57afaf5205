#!/bin/sh
# test.sh - installs what is missing, builds with warnings as errors, runs every test.
# Ends with one line: N passed, N failed, N skipped.
set -eu
cd "$(dirname "$0")/.."
./launch/install.sh
[ -f build/build.ninja ] && meson configure build --werror >/dev/null
./launch/build.sh build --werror
status=0
meson test -C build --print-errorlogs --no-rebuild || status=$?
python3 tests/summary.py build/meson-logs/testlog.json
exit $status
