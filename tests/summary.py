#!/usr/bin/env python3
"""summary.py LOG - reads meson's testlog.json, prints each skipped test with its reason, and prints the numbers of
passed, failed and skipped tests."""
import json
import sys

passed = failed = skipped = 0
for line in open(sys.argv[1], encoding="utf-8"):
    test = json.loads(line)
    result = test["result"]
    if result in ("OK", "EXPECTEDFAIL"):
        passed += 1
    elif result == "SKIP":
        skipped += 1
        words = (test.get("stdout", "") + test.get("stderr", "")).strip().splitlines()
        print(f"skipped: {test['name']}: {words[-1] if words else 'no reason given'}")
    else:
        failed += 1
        print(f"failed: {test['name']} ({result})")
if passed + failed == 0:
    print("no test ran")
    sys.exit(1)
print(f"{passed} passed, {failed} failed, {skipped} skipped")
