#!/usr/bin/env python3
"""balance.py PLUMB PLUMB_WORLD [--ranks 2,4,8] [--out PAGE] - how evenly ranks share the rollout.
balance.py PLUMB PLUMB_WORLD --model FOLDER --prompts FILE [--repeat N] - seconds of the rollout on 2 ranks.

First form: SFT teaches a small model the length of the answer to each of 32 prompts: 2 to 50 tokens, few of them
long. `raft` then trains this model on the same prompts, once in the order of the file (long answers first, so that
one rank owns them) and once shuffled. The table gives generated tokens and decode steps per rank from load.jsonl: the
largest value of any rank over the mean of the ranks. With `none` and `length` these counts do not depend on the speed
of the machine; with `queue` they do. The script fails unless every run writes the same weights, rollouts and metrics
as the run on one rank.

With --model: `raft` samples 4 answers to each of 24 prompts in 8 slots per rank, with each value of generate.balance
in turn.
It does so first with one core for each rank, then with a busy process on the core of rank 1. No other program should
run on the machine. Needs the standard library only."""
import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "app"))
import common  # noqa: E402

PROMPTS, ITERATIONS, GROUP = 32, 3, 4
BALANCES = ("none", "length", "queue")
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
    """Returns one pair per iteration of load.jsonl's column `name`: (largest value of any rank,
    that value over the mean of the ranks)."""
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
            for balance in BALANCES:
                out = run(bench, base, data, bench.folder / f"{balance}-{ranks}-{number}", ranks, setting, f"generate.balance={balance}")
                bench.same_run(one, out, f"{order}, {ranks} ranks, {balance}:")
                cells = [", ".join(f"{ratio:.2f}" for _, ratio in spread(out, name)) for name in ("rollout/tokens", "rollout/decode_steps")]
                steps = ", ".join(str(most) for most, _ in spread(out, "rollout/decode_steps"))
                text.append(f"| {order} | {ranks} | {balance} | {cells[0]} | {cells[1]} | {steps} |")
                print(text[-1], flush=True)
    if options.out:
        Path(options.out).write_text("\n".join(text) + "\n")


def one_rollout(bench, options, balance, out):
    """Runs one iteration of raft on 2 ranks, each bound to one core. Returns time/rollout (seconds), comm/idle_rollout
    (share of the ranks' time that is idle) and comm/tail_tokens (most tokens of any rank over the mean)."""
    mpirun = [x for x in common.MPIRUN if x not in ("--oversubscribe", "--bind-to", "none")]
    command = [*mpirun, "--bind-to", "core", "-n", 2, bench.plumb, "align", f"model={options.model.resolve()}", f"output_dir={out}",
               f"data.prompts={options.prompts.resolve()}", "data.shuffle=false", "method.name=raft", "iterations=1", "prompts_per_iteration=24", "group_size=4", "slots=8",
               "max_new_tokens=160", "max_tokens=1024", "reward.functions=[{name: length, target: 30}]", "global_batch_size=24", "micro_batch_size=1",
               "learning_rate=1e-6", "kl_to_start=false", "report.html=false", "checkpoint.every=0", f"generate.balance={balance}", "threads=1"]
    done = subprocess.run([str(x) for x in command], cwd=bench.folder, capture_output=True, text=True)
    bench.check(done.returncode == 0, balance, done.stderr[-2000:])
    row = common.metrics(bench.folder / out)[0]
    return row["time/rollout"], row["comm/idle_rollout"], row["comm/tail_tokens"]


def measure_seconds(bench, options):
    print("| rank 1's core | balance | seconds of the rollout | idle share of a rank | most tokens / mean |\n|---|---|---|---|---|", flush=True)
    for shared in (False, True):
        other = subprocess.Popen(["taskset", "-c", "1", sys.executable, "-c", "while True: pass"]) if shared else None
        got = {b: [] for b in BALANCES}
        for i in range(options.repeat):
            for b in BALANCES:
                got[b].append(one_rollout(bench, options, b, f"{b}-{shared}-{i}"))
                bench.same(bench.folder / "none-False-0/latest/model.safetensors", bench.folder / f"{b}-{shared}-{i}/latest/model.safetensors", b)
                if (b, shared, i) != ("none", False, 0):
                    shutil.rmtree(bench.folder / f"{b}-{shared}-{i}")
        if other:
            other.kill()
        for b in BALANCES:
            cells = [", ".join(f"{x:.{digits}f}" for x in column) for column, digits in zip(zip(*got[b]), (1, 2, 2))]
            print(f"| {'shared' if shared else 'its own'} | {b} | {' | '.join(cells)} |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("plumb")
    p.add_argument("world")
    p.add_argument("--ranks", type=lambda s: [int(x) for x in s.split(",")], default=[2, 4, 8])
    p.add_argument("--out", help="write the table to this file")
    p.add_argument("--model", type=Path, help="measure seconds with this model")
    p.add_argument("--prompts", type=Path, help="24 prompts for --model")
    p.add_argument("--repeat", type=int, default=2)
    options = p.parse_args()
    bench = common.Bench(options.plumb, options.world)
    try:
        if not bench.mpirun:
            common.skip("there is no mpirun, or this plumb is built without MPI")
        (measure_seconds if options.model else measure)(bench, options)
    finally:
        bench.close()
    bench.end()


if __name__ == "__main__":
    main()
