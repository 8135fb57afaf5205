#!/usr/bin/env python3
"""expect_exit.py CODE COMMAND...: succeeds when the command ends with exactly this exit code."""
import subprocess
import sys

code = subprocess.run(sys.argv[2:], check=False).returncode
if code != int(sys.argv[1]):
    print(f"exit code {code}, expected {sys.argv[1]}", file=sys.stderr)
sys.exit(0 if code == int(sys.argv[1]) else 1)
