#!/usr/bin/env python3
"""micro_tokens.py PLUMB PLUMB_WORLD [--repeats N] - compares train.micro_batch_tokens with train.micro_batch_size.

Both need memory for the same number of tokens: micro_batch_size S with records of at most 512 tokens, and
micro_batch_tokens S * 512.

The script runs `sft` of a small model on 512 records whose lengths have a log-normal distribution. Some figures are
counted and hold for any machine: the bytes by `plumb plan`, the micro-batches of a step, the share of a
micro-batch's token capacity that is used (filled), and the share of time in which ranks compute (busy), if a round
has one micro-batch per rank and time is proportional to tokens. One figure is measured: the CPU seconds of a run on
one rank, which depend less on other programs than elapsed time does. Needs the standard library only."""
import argparse
import json
import os
import random
import resource
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "app"))
import common  # noqa: E402

RECORDS, LONGEST, STEP, STEPS = 512, 512, 128, 4
WORLDS = (4, 8)


def make(bench):
    """Writes the configuration of the model and the file of records; returns the lengths of the
    records in tokens."""
    bench.make_world()
    path = bench.world / "config.json"
    config = json.loads(path.read_text())
    config.update(hidden_size=192, intermediate_size=512, num_hidden_layers=4, head_dim=48, max_position_embeddings=LONGEST)
    path.write_text(json.dumps(config))
    rng = random.Random(1)
    lengths = [int(min(LONGEST, max(8, rng.lognormvariate(4.2, 0.9)))) for _ in range(RECORDS)]
    with open(bench.folder / "records.jsonl", "w", encoding="utf-8") as f:
        for n in lengths:
            f.write(json.dumps({"ids": [rng.randint(5, 40) for _ in range(n)], "prompt_tokens": 2}) + "\n")
    return lengths


def cuts(lengths, size, limit):
    """Divides the records of each step into micro-batches: of `size` records if size > 0, else of
    at most `limit` tokens. Returns, for each step, the number of tokens of each micro-batch."""
    steps = []
    for at in range(0, len(lengths), STEP):
        out, items = [], 0
        for n in lengths[at:at + STEP]:
            if not out or (items == size if size else out[-1] + n > limit):
                out.append(0)
                items = 0
            out[-1] += n
            items += 1
        steps.append(out)
    return steps


def busy(steps, world):
    """Returns the share of the ranks' time in which they compute, if time is proportional to tokens. In
    each round every rank takes one micro-batch, and all wait for the largest one."""
    taken = sum(max(s[i:i + world]) for s in steps for i in range(0, len(s), world))
    return sum(map(sum, steps)) / (world * taken)


def cpu_seconds(bench, args):
    def used():
        u = resource.getrusage(resource.RUSAGE_CHILDREN)
        return u.ru_utime + u.ru_stime
    before = used()
    bench.good(*args)
    return used() - before


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("plumb")
    p.add_argument("world")
    p.add_argument("--repeats", type=int, default=3, help="runs of each setting, in turn")
    options = p.parse_args()
    bench = common.Bench(options.plumb, options.world)
    lengths = make(bench)
    print(f"{RECORDS} records of {min(lengths)} to {max(lengths)} tokens, mean {statistics.mean(lengths):.1f}, {STEP} a step\n")
    print("| limit | planned | micro-batches of a step | filled | " +
          " | ".join(f"busy, {w} ranks" for w in WORLDS) + " | CPU seconds, median (least to most) |")
    print("|---|---|---|---|" + "---|" * (len(WORLDS) + 1))
    for size in (1, 4):
        limits = {f"micro_batch_size={size}": (size, 0), f"micro_batch_tokens={size * LONGEST}": (0, size * LONGEST)}
        seconds, planned = {k: [] for k in limits}, {}
        for number in range(options.repeats):
            for limit in limits:
                out = bench.folder / f"{limit}-{number}"
                args = ["sft", f"model={bench.world}", f"output_dir={out}", "train.init=random", "data.shuffle=false",
                        f"data.train={bench.folder}/records.jsonl", f"max_steps={STEPS}", f"global_batch_size={STEP}",
                        "checkpoint.every=0", "report.html=false", limit]
                bench.run("plan", *args, f"output={bench.folder}/plan.json")
                planned[limit] = json.loads((bench.folder / "plan.json").read_text())["bytes_with_host"]
                seconds[limit].append(cpu_seconds(bench, args))
        for limit, (n, tokens) in limits.items():
            steps = cuts(lengths, n, tokens)
            count = statistics.mean(len(s) for s in steps)
            shares = [sum(lengths) / (sum(len(s) for s in steps) * size * LONGEST), *(busy(steps, w) for w in WORLDS)]
            s = sorted(seconds[limit])
            print(f"| `{limit}` | {planned[limit] / 1e6:.1f} MB | {count:.1f} | " + " | ".join(f"{x:.2f}" for x in shares) +
                  f" | {statistics.median(s):.2f} ({s[0]:.2f} to {s[-1]:.2f}) |")
    print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the end")
    bench.close()


if __name__ == "__main__":
    main()
