#!/usr/bin/env python3
"""balance.py PLUMB PLUMB_WORLD [--ranks 2,4,8] [--out PAGE] - the tail of the rollout with and without generate.balance.

A small model learns one length of answer for each of 32 prompts, from 2 to 50 tokens with a long tail. `raft` then trains
on them, in the order of the file (long answers first, so that they belong to one rank) and shuffled. Tails are counted in
tokens and in decode steps, from load.jsonl, and so do not depend on the speed of the machine. Every run must write the
same weights, rollouts and metrics as one rank does; else the script fails. Standard library only."""
import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "app"))
import common  # noqa: E402

PROMPTS, ITERATIONS, GROUP = 32, 3, 4
WORDS = [max(1, round(48 * 0.86**k)) for k in range(PROMPTS)]
ORDERS = {"long first": "data.shuffle=false", "shuffled": "data.shuffle=true"}


def world(bench):
    bench.make_world()
    records = [{"prompt": f"item {10 + k}", "completion": " ".join(["kind"] * n)} for k, n in enumerate(WORDS)]
    data = bench.folder / "lengths.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in records))
    bench.good(*bench.sft_args(bench.folder / "lengths", f"data.train={data}", "learning_rate=5e-3", "epochs=200", steps=400))
    return bench.folder / "lengths" / "latest", data


def run(bench, base, data, out, ranks, *more):
    bench.good(*bench.align_args(out, base, f"data.prompts={data}", "reward.functions=[{name: length, target: 30}]", f"global_batch_size={PROMPTS}",
                                 "slots=8", "temperature=0.7", "max_new_tokens=80", "learning_rate=1e-6", *more,
                                 method="raft", iterations=ITERATIONS, prompts=PROMPTS, group=GROUP), ranks=ranks)
    return out


def spread(out, name):
    """Returns (the most of any rank, the most over the mean) of each iteration."""
    lines = [json.loads(x)[name] for x in (out / "load.jsonl").read_text().splitlines()]
    return [(max(x), max(x) / statistics.fmean(x)) for x in lines]


def measure(bench, options):
    base, data = world(bench)
    text = ["| order | ranks | balance | tokens: most / mean, iterations 1 to 3 | decode steps: most / mean | decode steps of the slowest rank |",
            "|---|---|---|---|---|---|"]
    for number, (order, setting) in enumerate(ORDERS.items()):
        one = run(bench, base, data, bench.folder / f"one-{number}", 1, setting)
        lengths = [len(a["ids"]) for i in range(1, ITERATIONS + 1) for a in common.rollout_answers(one, i)]
        print(f"{order}: {min(lengths)} to {max(lengths)} tokens, mean {statistics.fmean(lengths):.1f}, median {statistics.median(lengths)}", flush=True)
        for ranks in options.ranks:
            for balance in ("none", "length"):
                out = run(bench, base, data, bench.folder / f"{balance}-{ranks}-{number}", ranks, setting, f"generate.balance={balance}")
                bench.same_run(one, out, f"{order}, {ranks} ranks, {balance}:")
                cells = [", ".join(f"{ratio:.2f}" for _, ratio in spread(out, name)) for name in ("rollout/tokens", "rollout/decode_steps")]
                steps = ", ".join(str(most) for most, _ in spread(out, "rollout/decode_steps"))
                text.append(f"| {order} | {ranks} | {balance} | {cells[0]} | {cells[1]} | {steps} |")
                print(text[-1], flush=True)
    if options.out:
        Path(options.out).write_text("\n".join(text) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("plumb")
    p.add_argument("world")
    p.add_argument("--ranks", type=lambda s: [int(x) for x in s.split(",")], default=[2, 4, 8])
    p.add_argument("--out", help="write the table to this file")
    options = p.parse_args()
    bench = common.Bench(options.plumb, options.world)
    try:
        if not bench.mpirun:
            common.skip("there is no mpirun, or this plumb is built without MPI")
        measure(bench, options)
    finally:
        bench.close()
    bench.end()


if __name__ == "__main__":
    main()
