#!/bin/sh
# test.sh - installs missing packages, builds with warnings as errors, and runs every test.
# The last line of the output is: N passed, N failed, N skipped.
set -eu
cd "$(dirname "$0")/.."
./launch/install.sh
[ -f build/build.ninja ] && meson configure build --werror >/dev/null
./launch/build.sh build --werror
status=0
# The time limits only end a test that hangs: a busy machine may take several times as long.
meson test -C build --print-errorlogs --no-rebuild --timeout-multiplier 5 || status=$?
python3 tests/summary.py build/meson-logs/testlog.json
exit $status
