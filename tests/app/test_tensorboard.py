#!/usr/bin/env python3
"""test_tensorboard.py: reads the TensorBoard events of a resumed run with the package tensorboard. Skipped if Python
does not have this package."""
import math
import shutil

import common

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    common.skip("Python has no tensorboard")


def test(bench):
    out, held = bench.folder / "run", bench.folder / "held.jsonl"
    shutil.copy(bench.world / "sft.jsonl", held)
    common.head(held, 40)
    args = bench.sft_args(out, "report.to=tensorboard", "log_every=1", f"data.eval={held}", "train.eval_every=3", steps=9)
    *cuts, r = bench.in_sessions(*args)
    bench.check(r.code == 0 and len(cuts) > 1, "sessions", len(cuts), r)
    reader = EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    tags = reader.Tags()
    names = tags["scalars"] or tags["tensors"]
    rows = common.metrics(out)
    bench.check(set(names) == {k for r in rows for k in r} - {"step", "iteration", "weights"}, "tags", names)
    for name in names:
        want = [(r["step"], r[name]) for r in rows if name in r]
        got = [(e.step, e.value) for e in reader.Scalars(name)]
        same = len(got) == len(want) and all(a[0] == b[0] and math.isclose(a[1], b[1], rel_tol=1e-6, abs_tol=1e-30) for a, b in zip(got, want))
        bench.check(same, name, got, want)


common.main(test)
