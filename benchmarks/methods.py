#!/usr/bin/env python3
"""methods.py [--ranks 2] [--seeds 3] [--rates 1e-4,2e-4,4e-4] [--keep] - PSLE against its baselines on the quickstart's world.

Needs what ./launch/quickstart.sh leaves in runs/quickstart (world, sft, reward). Every method gets the same prompts,
the same number of generated completions and optimizer steps, and the same tuning trials: each learning rate once with
seed 1, chosen by the reward on prompts of the training set. Then every method runs with its own rate on every seed and
is evaluated on held-out prompts, by the reward model it was trained with and by the world's true score.
Writes runs/methods/table.json and prints the table. Standard library only."""
import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
METHODS = {"context distillation": "context_distillation", "best-of-K": "raft", "PSLE": "align"}


def plumb(ranks, *arguments):
    command = ["./launch/local.sh", str(ranks), *arguments, "log_level=warn"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with code {done.returncode}:\n{done.stderr}")


def align(ranks, config, out, rate, seed, keep):
    if keep and (ROOT / out / "latest").exists():
        return  # runs are functions of configuration and seed: a finished one would come out the same
    shutil.rmtree(ROOT / out, ignore_errors=True)
    plumb(ranks, "align", f"configs/quickstart/{config}.yaml", f"output_dir={out}", f"learning_rate={rate}", f"seed={seed}",
          "checkpoint.every=0", "report.html=false", "samples=0")


def evaluate(ranks, out, models, *arguments):
    names = ",".join(f"{name}={path}" for name, path in models.items())
    plumb(ranks, "eval", "configs/quickstart/eval.yaml", f"eval.models={names}", f"output_dir={out}", "report.html=false", *arguments)
    return {m["name"]: m for m in json.loads((ROOT / out / "eval.json").read_text())["models"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", default="1e-4,2e-4,4e-4")
    parser.add_argument("--keep", action="store_true", help="use the finished runs of an interrupted call")
    args = parser.parse_args()
    start = "runs/quickstart/sft/latest"
    if not (ROOT / start).exists():
        sys.exit("runs/quickstart is not there: run ./launch/quickstart.sh first")
    rates = args.rates.split(",")
    began = time.time()
    chosen, trials = {}, {}
    for method, config in METHODS.items():
        models = {}
        for rate in rates:
            models[rate] = f"runs/methods/tune-{config}-{rate}"
            align(args.ranks, config, models[rate], rate, 1, args.keep)
        figures = evaluate(args.ranks, f"runs/methods/tune-{config}", {r: f"{p}/latest" for r, p in models.items()},
                           "data.eval=runs/quickstart/world/prompts.jsonl", "data.limit=256", "seed=1001")
        trials[method] = {rate: figures[rate]["reward"] for rate in rates}
        chosen[method] = max(rates, key=lambda rate: trials[method][rate])
        print(f"{method}: tuning reward {trials[method]}, takes {chosen[method]}", flush=True)
    rows = {name: {"reward": [], "win_rate": [], "true": [], "length": []} for name in ["SFT", *METHODS]}
    for seed in range(1, args.seeds + 1):
        models = {"SFT": start}
        for method, config in METHODS.items():
            out = f"runs/methods/seed{seed}-{config}"
            align(args.ranks, config, out, chosen[method], seed, args.keep)
            models[method] = f"{out}/latest"
        scored = evaluate(args.ranks, f"runs/methods/eval{seed}", models, f"seed={seed}")
        truth = evaluate(args.ranks, f"runs/methods/true{seed}", models, f"seed={seed}", "reward.model=",
                         "reward.command=./build/plumb-world judge")
        for name in models:
            rows[name]["reward"].append(scored[name]["reward"])
            rows[name]["win_rate"].append(scored[name]["win_rate"])
            rows[name]["true"].append(truth[name]["reward"])
            rows[name]["length"].append(scored[name]["mean_length"])
        print(f"seed {seed}: " + ", ".join(f"{n} {r['reward'][-1]:+.3f}" for n, r in rows.items()), flush=True)

    def cell(values, scale=1.0):
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return f"{scale * statistics.mean(values):8.3f} +- {scale * spread:.3f}"

    print(f"\n{'method':22}{'held-out reward':>20}{'win rate vs SFT':>20}{'true score':>20}{'tokens':>20}")
    for name, row in rows.items():
        print(f"{name:22}{cell(row['reward']):>20}{cell(row['win_rate']):>20}{cell(row['true']):>20}{cell(row['length']):>20}")
    out = {"seeds": args.seeds, "ranks": args.ranks, "tuning": trials, "learning_rate": chosen, "rows": rows,
           "seconds": round(time.time() - began)}
    (ROOT / "runs/methods/table.json").write_text(json.dumps(out, indent=1) + "\n")
    print(f"mean and standard deviation over {args.seeds} seeds; {out['seconds']} s; runs/methods/table.json")


if __name__ == "__main__":
    main()
