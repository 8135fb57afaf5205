#!/usr/bin/env python3
"""methods.py [--methods psle,dpo,...] [--seeds 1,2,3] [--rates 1e-4,2e-4,4e-4] [--set key=value ...] - compares methods with all else equal.

Every method has the same start model, prompts, reward model and budget. The budget is a number of prompts and answers or,
with --tokens N, N generated tokens (train.generated_tokens). With --tokens, the limit of iterations is four times as
high, because optune generates new answers for only half of its prompts in an iteration. Every method gets the same tuning
trials: each learning rate once, with the first seed and half of the budget. The learning rate with the best reward on
training prompts is chosen. With --max-kl X, only trials with a KL divergence from the start of at most X nats count;
otherwise methods that overfit the reward model win. Then for each seed every method trains with its learning rate and
answers the held-out prompts. The reward model scores these answers and, with --judge, so does a second source of rewards
that no method trains on. After each seed `plumb compare` writes OUT/compare (and OUT/compare-judge), so that an
interrupted call leaves the table of the complete seeds. A second call with the same settings continues; other settings
need another --out.

METHOD:OPTION=VALUE is a method with one option set (vcb:lambda=10). spa is a run of several stages that uses a few
labelled pairs instead of the reward model; its three stages generate answers in the ratio 1:2:4, together about the
budget.

By default the task is that of the quickstart, which needs runs/quickstart of ./launch/quickstart.sh. --configs names
another folder with METHOD.yaml files and an eval.yaml. Needs the standard library only."""
import argparse
import json
import os
import sys
import time

import runs
from runs import ROOT

FILES = {"psle": "align"}  # methods whose configuration file has another name
ALL = "psle,context_distillation,raft,dpo,ipo,rdo,aps,vcb,rrhf,lire,pro,psle_curriculum,optune,selm,dlma,real,spa"
SPA_ANSWERS = 2  # answers to each prompt
SPA_LENGTH = 18.5  # assumed mean number of tokens of an answer


def folder_of(method):
    return method.replace(":", "-").replace("=", "-")


def align(args, method, run, rate, seed, *more):
    """Makes the run of a method unless it is complete. Returns the folder that holds its
    run.json and checkpoints."""
    name, *settings = method.split(":")
    common = (f"model={args.start}", f"learning_rate={rate}", f"seed={seed}")
    if name == "spa":
        # drops the option: each stage of spa runs one iteration
        settings = [s for s in args.set if "iteration" not in s.split("=")[0]]
        # the run.json of the last stage is read, because a run of several stages has none of its
        # own
        last = f"{run}/spa-3"
        if not runs.finished(last):
            runs.train(args, "run", f"{args.configs}/spa.yaml", run, *common, *settings, *more)
        return last
    runs.train(args, "align", f"{args.configs}/{FILES.get(name, name)}.yaml", run, *common, "samples=0", *args.set,
               *(f"method.{s}" for s in settings), *more)
    return run


def budget_of_spa(args, share, iterations):
    prompts = next((int(s.split("=")[1]) for s in args.set if s.split("=")[0].endswith("prompts_per_iteration")), 256)
    answers = args.tokens / SPA_LENGTH if args.tokens else 4 * prompts * iterations
    part = int(share * answers / SPA_ANSWERS / 7)
    return [f"spa-{i}:data.{key}" for i, skip, n in ((1, 0, 1), (2, 1, 2), (3, 3, 4)) for key in (f"skip={skip * part}", f"limit={n * part}")]


def budget(args, method, share=1):
    """Returns the options that limit a run to `share` of its budget."""
    iterations = next((int(s.split("=")[1]) for s in args.set if s.split("=")[0].endswith("iterations")), 8)
    if method == "spa":
        return budget_of_spa(args, share, iterations)
    if args.tokens:
        return [f"train.generated_tokens={int(share * args.tokens)}", f"iterations={4 * iterations}"]
    return [] if share == 1 else [f"iterations={max(1, int(share * iterations))}"]


def tune(args, method):
    """Trains with each learning rate on half of the budget, evaluates on training prompts, and returns
    the learning rate that runs.choose takes."""
    folder = f"{args.out}/{folder_of(method)}"
    file = ROOT / folder / "tuning.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or set(json.loads(file.read_text())) != set(args.rates):
        trials = {r: align(args, method, f"{folder}/tune-{r}", r, args.seeds[0], *budget(args, method, 0.5)) for r in args.rates}
        figures = runs.evaluate(args, f"{folder}/tune", {"start": args.start} | {r: f"{p}/latest" for r, p in trials.items()},
                                f"data.eval={args.tune_on}", "data.limit=128", "eval.samples=1", "seed=1001", "eval.bootstrap=0")
        file.write_text(json.dumps({rate: {"reward": figures[rate]["reward"], "kl": figures[rate]["kl"]} for rate in args.rates}) + "\n")
    trials = json.loads(file.read_text())
    trials = {rate: trials[rate] for rate in args.rates}
    return runs.choose(trials, args.max_kl), trials


def compare(args, done, out, evaluation):
    """Runs `plumb compare` over the finished runs. If spa is among them, compare must accept differences: spa has
    another start model, other prompts, and labels instead of rewards."""
    other = ["compare.allow=start,prompts,reward,budget"] if any("/spa/" in run for run in done) else []
    return runs.plumb(args, "compare", *done, f"output_dir={out}", f"compare.evaluation={evaluation}", *other)


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
        rates[method], trials = tune(args, method)
        tried = ", ".join(f"{rate}: {t['reward']:.3f} at {t['kl']:.1f} nats" for rate, t in trials.items())
        print(f"{method}: tuning reward {tried}; takes {rates[method]}  ({time.time() - began:.0f} s)", flush=True)
    done = []
    for seed in args.seeds:
        mine = {folder_of(m): align(args, m, f"{args.out}/{folder_of(m)}/seed-{seed}", rates[m], seed, *budget(args, m)) for m in methods}
        models = {"start": args.start} | {m: f"{run}/latest" for m, run in mine.items()}
        runs.evaluate(args, f"{args.out}/eval-{seed}", models, f"seed={seed}")
        if args.judge:
            runs.evaluate(args, f"{args.out}/judge-{seed}", models, f"seed={seed}", "reward.model=", f"reward.command={args.judge}")
        for run in mine.values():
            for name in ("eval", "judge") if args.judge else ("eval",):
                link = ROOT / run / name
                link.unlink(missing_ok=True)
                link.symlink_to(os.path.relpath(ROOT / args.out / f"{name}-{seed}", ROOT / run))
        done += mine.values()
        table = compare(args, done, f"{args.out}/compare", "eval")
        if args.judge:
            table += "\nby the judge:\n" + compare(args, done, f"{args.out}/compare-judge", "judge")
        print(f"\nseeds up to {seed}, {time.time() - began:.0f} s\n{table}", flush=True)


if __name__ == "__main__":
    main()
