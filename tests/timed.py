#!/usr/bin/env python3
"""timed.py CODE COMMAND...: succeeds when the command ends with exactly this exit code.

One that ends with LATE found a time-out wrong, which may be the fault of a machine that was too
slow: it is run again with all its times multiplied (PLUMB_TEST_PACE). What the program does wrong
is wrong at every pace."""
import os
import subprocess
import sys

LATE = 75  # as in harness.h
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
