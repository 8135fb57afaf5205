#!/usr/bin/env python3
"""methods.py [--methods psle,dpo,...] [--seeds 1,2,3] [--rates 1e-4,2e-4,4e-4] [--set key=value ...] - methods compared, with nothing else changed.

Every method runs on the same start, prompts, reward model and budget of generated tokens: the same prompts and answers
at most, or with --tokens N, N tokens really generated (train.generated_tokens; four times the iterations are the limit,
as optune answers half of its prompts in each). Every method gets the same tuning trials: each learning rate once with
the first seed and half of the iterations or tokens, chosen by the reward on prompts of the training set, with --max-kl
among those that stay so close to the start: without it, methods that overfit the reward model win. Then seed by seed every method runs with its rate and answers the held-out prompts, scored by the reward
model it was trained with and, with --judge, by a second source that no method sees; after each seed `plumb compare`
writes OUT/compare (OUT/compare-judge), so that an interrupted call leaves the table of the seeds that are whole. Called
again with the same settings it goes on from there; other settings need another --out.

By default this is the quickstart's world, and needs what ./launch/quickstart.sh leaves in runs/quickstart. --configs
names another folder with METHOD.yaml files and an eval.yaml. Standard library only."""
import argparse
import json
import sys
import time

import runs
from runs import ROOT

FILES = {"psle": "align"}  # whose file has another name than the method
ALL = "psle,context_distillation,raft,dpo,ipo,rdo,aps,vcb,rrhf,lire,pro,psle_curriculum"


def align(args, method, run, rate, seed, *more):
    runs.train(args, "align", f"{args.configs}/{FILES.get(method, method)}.yaml", run, f"model={args.start}",
               f"learning_rate={rate}", f"seed={seed}", "samples=0", *args.set, *more)


def budget(args, share=1):
    """The options that end a run after this share of its budget."""
    iterations = next((int(s.split("=")[1]) for s in args.set if s.split("=")[0].endswith("iterations")), 8)
    if args.tokens:
        return [f"train.generated_tokens={int(share * args.tokens)}", f"iterations={4 * iterations}"]
    return [] if share == 1 else [f"iterations={max(1, int(share * iterations))}"]


def tune(args, method):
    """The learning rate that runs.choose takes after half of the budget, judged on training prompts."""
    file = ROOT / args.out / method / "tuning.json"
    if not file.exists() or set(json.loads(file.read_text())) != set(args.rates):
        trials = {rate: f"{args.out}/{method}/tune-{rate}" for rate in args.rates}
        for rate, run in trials.items():
            align(args, method, run, rate, args.seeds[0], *budget(args, 0.5))
        figures = runs.evaluate(args, f"{args.out}/{method}/tune", {"start": args.start} | {r: f"{p}/latest" for r, p in trials.items()},
                                f"data.eval={args.tune_on}", "data.limit=128", "eval.samples=1", "seed=1001", "eval.bootstrap=0")
        file.write_text(json.dumps({rate: {"reward": figures[rate]["reward"], "kl": figures[rate]["kl"]} for rate in args.rates}) + "\n")
    trials = json.loads(file.read_text())
    trials = {rate: trials[rate] for rate in args.rates}
    return runs.choose(trials, args.max_kl), trials


def compare(args, done, out, evaluation):
    return runs.plumb(args, "compare", *done, f"output_dir={out}", f"compare.evaluation={evaluation}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=ALL)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--rates", default="1e-4,2e-4,4e-4")
    parser.add_argument("--max-kl", type=float, default=0, help="nats per answer that a tuning trial may be away from the start; 0: any")
    parser.add_argument("--tokens", type=int, default=0, help="that every method generates; 0: as many as its iterations make")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], help="key=value for every method's run")
    parser.add_argument("--configs", default="configs/quickstart")
    parser.add_argument("--start", default="runs/quickstart/sft/latest")
    parser.add_argument("--tune-on", default="runs/quickstart/world/prompts.jsonl")
    parser.add_argument("--judge", default="./build/plumb-world judge", help="reward.command of the second evaluation; '' for none")
    parser.add_argument("--out", default="runs/methods")
    args = parser.parse_args()
    if not (ROOT / args.start).exists():
        sys.exit(f"{args.start} is not there: run ./launch/quickstart.sh first")
    runs.same_settings(args.out, [args.configs, args.start, args.tune_on, sorted(args.set), args.seeds.split(",")[0],
                                  *([args.tokens] if args.tokens else [])])
    args.seeds, args.rates, methods = args.seeds.split(","), args.rates.split(","), args.methods.split(",")
    began, rates = time.time(), {}
    for method in methods:
        (ROOT / args.out / method).mkdir(parents=True, exist_ok=True)
        rates[method], trials = tune(args, method)
        tried = ", ".join(f"{rate}: {t['reward']:.3f} at {t['kl']:.1f} nats" for rate, t in trials.items())
        print(f"{method}: tuning reward {tried}; takes {rates[method]}  ({time.time() - began:.0f} s)", flush=True)
    done = []
    for seed in args.seeds:
        mine = {m: f"{args.out}/{m}/seed-{seed}" for m in methods}
        for method, run in mine.items():
            align(args, method, run, rates[method], seed, *budget(args))
        models = {"start": args.start} | {m: f"{run}/latest" for m, run in mine.items()}
        runs.evaluate(args, f"{args.out}/eval-{seed}", models, f"seed={seed}")
        if args.judge:
            runs.evaluate(args, f"{args.out}/judge-{seed}", models, f"seed={seed}", "reward.model=", f"reward.command={args.judge}")
        for run in mine.values():
            for name in ("eval", "judge") if args.judge else ("eval",):
                link = ROOT / run / name
                link.unlink(missing_ok=True)
                link.symlink_to(f"../../{name}-{seed}")
        done += mine.values()
        table = compare(args, done, f"{args.out}/compare", "eval")
        if args.judge:
            table += "\nby the judge:\n" + compare(args, done, f"{args.out}/compare-judge", "judge")
        print(f"\nseeds up to {seed}, {time.time() - began:.0f} s\n{table}", flush=True)


if __name__ == "__main__":
    main()
