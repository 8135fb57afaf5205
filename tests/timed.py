#!/usr/bin/env python3
"""timed.py CODE COMMAND...: runs the command, and succeeds if its exit code is CODE.

The exit code LATE means that something took longer or shorter than expected, perhaps because the
machine was too slow. Then the command is run again with all its times multiplied
(PLUMB_TEST_PACE). A real fault fails with longer times, too."""
import os
import subprocess
import sys

LATE = 75  # same value as in tests/harness.h
PACES = (1, 4, 16)


def main():
    wanted, command = int(sys.argv[1]), sys.argv[2:]
    for pace in PACES:
        env = {**os.environ, "PLUMB_TEST_PACE": str(pace)}
        code = subprocess.run(command, env=env, check=False).returncode
        if code == wanted:
            return 0
        print(f"exit code {code}, expected {wanted}, at pace {pace}", file=sys.stderr, flush=True)
        if code != LATE:
            break
    return 1


sys.exit(main())
