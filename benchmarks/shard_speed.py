#!/usr/bin/env python3
"""shard_speed.py - speed of sft on CPU ranks with sharded gradients and with LoRA, compared with full
training without shards.

  python3 benchmarks/shard_speed.py [--out benchmarks/results/shard-speed]

Makes a small data set and a Llama of 24 million parameters (512 wide, 8 layers) under --work. Then runs
`plumb sft` in turn with each set of options, on 1 and on 2 ranks with one thread each, on texts of equal and
of mixed lengths. Writes a table of tokens per second to OUT.md and OUT.json. No other program should run on
the machine. Needs the standard library only."""
import argparse
import json
import os
import pathlib
import platform
import random
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
SETS = {"full": (), "full, gradients as shards": ("train.shard=gradients",),
        "LoRA, r 8, all linear layers": ("lora.r=8", "lora.targets=all-linear"),
        "LoRA, gradients as shards": ("lora.r=8", "lora.targets=all-linear", "train.shard=gradients")}
BATCH = ("train.global_batch_size=16", "train.micro_batch_size=4", "train.learning_rate=1e-4", "checkpoint.every=0",
         "report.html=false", "log_level=warn", "threads=1")


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--build", default=str(ROOT / "build"), help="build folder")
    p.add_argument("--work", default=str(ROOT / "runs/shard_speed"), help="folder of the runs")
    p.add_argument("--out", default=str(ROOT / "runs/shard_speed/shard-speed"), help="results, without ending")
    p.add_argument("--steps", type=int, default=8, help="optimizer steps of a run")
    p.add_argument("--repeat", type=int, default=3, help="runs of each set of options")
    return p.parse_args()


def run(command):
    done = subprocess.run([str(c) for c in command], text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")


def inputs(plumb, work):
    """Makes the base model and the two data files. Returns (model, {kind of lengths: file})."""
    shutil.rmtree(work, ignore_errors=True)
    world = work / "world"
    run([plumb.with_name("plumb-world"), "make", world, 1])
    config = json.loads((world / "config.json").read_text())
    config.update(hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=4, head_dim=64)
    (world / "config.json").write_text(json.dumps(config))
    rows = [json.loads(line) for line in (world / "sft.jsonl").read_text().splitlines()]
    rng = random.Random(1)

    def joined(n):
        return {"prompt": rows[0]["prompt"], "completion": "".join(" " + r["completion"].strip() for r in rng.choices(rows, k=n))}

    one = joined(9)
    files = {"equal": [one] * 256, "mixed": [joined(rng.randint(1, 12)) for _ in range(256)]}
    for name, content in files.items():
        (work / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in content))
    run([plumb, "sft", f"model={world}", f"data.train={work}/equal.jsonl", f"output_dir={work}/base", "train.init=random",
         "train.max_steps=1", *BATCH])
    return work / "base/latest", {name: work / f"{name}.jsonl" for name in files}


def speed(args, plumb, model, data, ranks, options):
    """Returns (trained tokens per second of all ranks, bytes sent by rank 0 per step)."""
    out = pathlib.Path(args.work) / "out"
    shutil.rmtree(out, ignore_errors=True)
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    run(["mpirun", "-n", ranks, "--bind-to", "core", *root, plumb, "sft", f"model={model}", f"data.train={data}", f"output_dir={out}",
         f"train.max_steps={args.steps}", f"train.log_every={args.steps}", *BATCH, *options])
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    return last["tokens_per_second"], last["comm/bytes"] / args.steps


def main():
    args = arguments()
    plumb, work = pathlib.Path(args.build).resolve() / "plumb", pathlib.Path(args.work).resolve()
    model, files = inputs(plumb, work)
    rows = []
    for lengths, data in files.items():
        for ranks in (1, 2):
            sets = {k: v for k, v in SETS.items() if ranks > 1 or "train.shard=gradients" not in v}
            found = {name: [] for name in sets}
            for _ in range(args.repeat):
                for name, options in sets.items():
                    found[name].append(speed(args, plumb, model, data, ranks, options))
            for name, values in found.items():
                tokens = sorted(v[0] for v in values)
                rows.append({"lengths": lengths, "ranks": ranks, "run": name, "tokens_per_second": statistics.median(tokens),
                             "least": tokens[0], "most": tokens[-1], "bytes_per_step": values[0][1]})
                rows[-1]["against_full"] = rows[-1]["tokens_per_second"] / next(
                    r["tokens_per_second"] for r in rows if (r["lengths"], r["ranks"], r["run"]) == (lengths, ranks, "full"))
                print(rows[-1], flush=True)
    out = pathlib.Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    lines = ["# Sharded gradients and LoRA: speed on CPU ranks", "", "    " + " ".join(["python3", "benchmarks/shard_speed.py", *sys.argv[1:]]), "",
             f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {cpu}, {platform.system()}; one thread per rank. A Llama of 512 x 8 layers in float32; "
             f"{args.steps} steps of 16 sequences in micro-batches of 4.", f"Tokens per second of all ranks: median of {args.repeat} runs (least to most), the sets of options in turn.", "",
             "| lengths | ranks | run | tokens/s | against full | bytes sent by rank 0 per step |", "|---|--:|---|--:|--:|--:|"]
    for r in rows:
        lines.append(f"| {r['lengths']} | {r['ranks']} | {r['run']} | {r['tokens_per_second']:.0f} ({r['least']:.0f}-{r['most']:.0f}) | "
                     f"{r['against_full']:.2f} | {r['bytes_per_step']:.4g} |")
    lines += ["", "With gradients as shards, a micro-batch belongs to one rank and the ranks meet after each round of micro-batches. At mixed lengths a round waits for its "
              "longest micro-batch; without shards the ranks meet once per step."]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")


main()
