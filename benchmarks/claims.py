#!/usr/bin/env python3
"""claims.py spa|real|vcb [--seeds 1,2,3,4,5] [--set key=value ...] - tests a paper's claim on the quickstart's task.

  spa    SPA that starts from 120 labelled pairs (3 % of the set), against DPO on these pairs alone
  real   DPO on the easy, a random or the hard pair of four answers, with labels by an annotator who makes errors
  vcb    VCB against DPO with three shapes of the reward gaps: equal, those of the task, heavy-tailed

Every variant (arm) gets the same number of tuning trials, which use a separate seed. Among the trials with a KL
divergence from the start model of at most --max-kl nats, the one with the best reward on training prompts is chosen. Then
for each seed all arms train from the same start model on the same prompts and answer the held-out prompts. The script
rewrites OUT/CLAIM/results.json and results.md after every seed; a second call with the same settings continues from these
files.
Needs runs/quickstart, which ./launch/quickstart.sh writes. Needs the standard library only."""
import argparse
import itertools
import json
import math
import statistics
import sys
import time

import runs
from runs import ROOT

LABELS = 120  # number of labelled pairs per seed, out of 4000
COLUMNS = {"reward": "held-out reward", "true": "true score", "worth": "worth", "worth_win": "win rate by worth", "win": "win rate", "true_win": "win rate by the true score",
           "kl": "KL, nats", "tokens": "tokens"}


# ---- variants (arms): trained once, evaluated together -----------------------------------------------------------------

def judge(args, *options):
    return " ".join([args.world_program, "judge", *map(str, options)])


def by_command(command, log=None):
    """Returns the options that make `command` the source of rewards. If log is given, the
    command's output is also appended to that file."""
    return ["reward.model=", f"reward.command={command}" + (f" | tee -a {log}" if log else "")]


def labels_of(run):
    """Returns the scores in the run's labels.jsonl: {prompt id: [(score that the run received,
    true score)]}."""
    asked = {}
    for line in (ROOT / run / "labels.jsonl").read_text().splitlines():
        label = json.loads(line)
        if label["score"] is not None:
            asked.setdefault(label["prompt_id"], []).append((label["score"], label["true"]))
    return asked


def figures(args, out, models, seed, rewards):
    """Evaluates the models on held-out prompts with each source of rewards ({name of the source: options}).
    Returns {model: {figure: value}}. Reads eval.json instead if an earlier call has written it."""
    found = {name: {} for name in models}
    for key, options in rewards.items():
        folder = f"{out}/{key}-{seed}"
        try:
            made = {m["name"]: m for m in json.loads((ROOT / folder / "eval.json").read_text())["models"]}
        except (OSError, ValueError):
            made = {}
        if list(made) != list(models):
            made = runs.evaluate(args, folder, models, *args.data_eval, f"seed={seed}", "eval.bootstrap=0", *options)
        for name, m in made.items():
            found[name] |= {key: m["reward"], key + "_std": m["reward_std"], "kl": m["kl"] or 0, "tokens": m["mean_length"],
                            ("win" if key == "reward" else f"{key}_win"): 0.5 if m["win_rate"] is None else m["win_rate"]}
    return found


def tune(args, arm, trials, *rewarded):
    """Runs every trial ({name: function that trains in the given folder and returns the model}) unless
    tuning.json exists, and returns the name of the trial that runs.choose takes."""
    folder = f"{args.out}/tuning/{arm}"
    file = ROOT / folder / "tuning.json"
    if not file.exists():
        models = {"start": args.start} | {name: trial(f"{folder}/{name}") for name, trial in trials.items()}
        got = runs.evaluate(args, f"{folder}/eval", models, f"data.eval={args.world}/prompts.jsonl", "data.limit=128",
                            "eval.samples=1", f"seed={args.tune_seed}", "eval.bootstrap=0", *rewarded)
        file.write_text(json.dumps({name: {"reward": got[name]["reward"], "kl": got[name]["kl"]} for name in trials}) + "\n")
    tried = json.loads(file.read_text())
    chosen = runs.choose(tried, args.max_kl)
    args.results["tuning"][arm] = {"trials": tried, "chosen": chosen}
    print(f"{arm}: " + ", ".join(f"{name}: {t['reward']:.3f} at {t['kl']:.1f} nats" for name, t in tried.items()) +
          f"; takes {chosen}  ({time.time() - args.began:.0f} s)", flush=True)
    return chosen


# ---- SPA ---------------------------------------------------------------------------------------------------------------

def spa_labels(seed):
    return [f"data.skip={(int(seed) - 1) * LABELS}", f"data.limit={LABELS}"]


def prefer(args, run, seed, rate, epochs):
    """Runs DPO on the labelled pairs of this seed: the first stage of spa.yaml."""
    runs.train(args, "prefer", f"{args.configs}/prefer.yaml", run, f"model={args.start}", f"data.train={args.world}/pairs.jsonl",
               f"seed={seed}", f"learning_rate={rate}", f"epochs={epochs}", "global_batch_size=32", "warmup_ratio=0.1", *spa_labels(seed), *args.set)
    return f"{run}/latest"


def spa_run(args, run, seed, dpo, rate):
    """Runs the stages of spa.yaml: DPO on labelled pairs, then three iterations of SPA. dpo: epochs and
    learning rate of the DPO stage, as EPOCHS@RATE. rate: learning rate of the iterations. Returns the last
    model."""
    epochs, first_rate = dpo.split("@")
    runs.plumb(args, "run", f"{args.configs}/spa.yaml", f"output_dir={run}", f"seed={seed}", f"method.judge={args.start}",
               f"data.train={args.world}/pairs.jsonl", f"data.prompts={args.world}/prompts.jsonl", f"learning_rate={rate}",
               *[f"seed:{o}" for o in (f"model={args.start}", *spa_labels(seed), f"learning_rate={first_rate}", f"epochs={epochs}")],
               *runs.QUIET, "resume=auto", *args.set)
    return f"{run}/spa-3/latest"


def spa(args):
    at = args.tune_seed
    rewarded = [f"reward.model={args.reward}"]
    dpo = args.spa_first or tune(args, "dpo", {f"{e}@{r}": lambda run, e=e, r=r: prefer(args, run, at, r, e)
                                               for e in args.epochs for r in args.rates}, *rewarded)
    rate = tune(args, "spa", {r: lambda run, r=r: spa_run(args, run, at, dpo, r) for r in args.spa_rates}, *rewarded)
    for seed in args.seeds:
        run = f"{args.out}/spa-{seed}"
        spa_run(args, run, seed, dpo, rate)
        models = {"start": args.start, "dpo": f"{run}/seed/latest"} | {f"spa-{i}": f"{run}/spa-{i}/latest" for i in (1, 2, 3)}
        yield seed, figures(args, f"{args.out}/eval", models, seed, {"reward": rewarded, "true": by_command(judge(args))})


# ---- REAL --------------------------------------------------------------------------------------------------------------

def real_run(args, run, seed, pick, rate, noise):
    """Runs one round as in the paper: the start model answers, the annotator labels one pair of answers for each
    prompt, and DPO trains on these pairs."""
    runs.train(args, "align", f"{args.configs}/real.yaml", run, f"model={args.start}", f"embedder={args.start}", f"pick={pick}",
               f"data.prompts={args.world}/prompts.jsonl", "iterations=1", f"prompts_per_iteration={args.prompts}", "global_batch_size=16",
               f"seed={seed}", f"learning_rate={rate}", "samples=0", *args.set,
               *by_command(judge(args, *noise, "--seed", seed), f"{run}/labels.jsonl"))
    return f"{run}/latest"


def label_figures(run):
    """Returns figures of a run's pairs: how many were shown to the annotator (asked), how many got a label (labelled),
    how many of these have equal true scores, which share of the others has a wrong label, and the mean gap between
    the true scores."""
    pairs = [p for p in labels_of(run).values() if len(p) == 2]
    used = [(a[0] - b[0], a[1] - b[1]) for a, b in pairs if a[0] != b[0]]
    told = [(label, gap) for label, gap in used if gap != 0]
    return {"asked": len(pairs), "labelled": len(used), "no_difference": len(used) - len(told),
            "wrong": sum(label * gap < 0 for label, gap in told) / max(1, len(told)),
            "gap": statistics.mean(abs(gap) for _, gap in used) if used else math.nan}


def real(args):
    picks = ("easy", "random", "hard")
    settings = [(f"noise {x}", ("--noise", x)) for x in args.noise] + [(f"flip {x}", ("--flip", x)) for x in args.flip]
    tuned = ("--noise", args.tune_noise)
    rate = {p: tune(args, p, {r: lambda run, p=p, r=r: real_run(args, run, args.tune_seed, p, r, tuned) for r in args.rates},
                    *by_command(judge(args))) for p in picks}
    for seed in args.seeds:
        found = {}
        for name, noise in settings:
            at = {p: f"{args.out}/{name.replace(' ', '-')}/{p}-{seed}" for p in picks}
            models = {"start": args.start} | {f"{name}: {p}": real_run(args, at[p], seed, p, rate[p], noise) for p in picks}
            got = figures(args, f"{args.out}/{name.replace(' ', '-')}/eval", models, seed, {"true": by_command(judge(args))})
            found |= {m: f | (label_figures(at[m.split(": ")[1]]) if m != "start" else {}) for m, f in got.items()}
        yield seed, found


# ---- VCB ---------------------------------------------------------------------------------------------------------------

def online(args, run, seed, method, shape, strength, rate):
    """Trains with `method` on rewards from the true scores. strength: factor on the method's pull towards the start
    model (lambda of vcb; 1 / strength for beta of dpo); 1 is the default pull."""
    pull = f"lambda={float(strength):g}" if method == "vcb" else f"beta={0.1 / float(strength):g}"
    runs.train(args, "align", f"{args.configs}/{method}.yaml", run, f"model={args.start}", f"data.prompts={args.world}/prompts.jsonl",
               f"prompts_per_iteration={args.prompts}", "global_batch_size=16", f"seed={seed}", f"learning_rate={rate}", pull, "samples=0",
               *args.set, *by_command(judge(args, "--shape", shape), f"{run}/labels.jsonl"))
    return f"{run}/latest"


def variation(args, run):
    """Returns standard deviation / mean of the reward gaps between the start model's answers to a prompt, over the pairs
    whose gap is not 0."""
    # the groups of the first iteration, whose answers are those of the start model
    groups = list(labels_of(run).values())[:args.prompts]
    gaps = [abs(a[0] - b[0]) for answers in groups for a, b in itertools.combinations(answers, 2) if a[0] != b[0]]
    return {"variation": statistics.pstdev(gaps) / statistics.mean(gaps) if gaps else math.nan}


def vcb(args):
    shapes, methods = ("equal", "natural", "heavy"), ("dpo", "vcb")
    chosen = {m: tune(args, m, {f"{s}@{r}": lambda run, m=m, s=s, r=r: online(args, run, args.tune_seed, m, "natural", s, r)
                                for s in args.strengths for r in args.rates}, *by_command(judge(args))) for m in methods}
    tried, calibrated = (args.results["tuning"][m]["trials"] for m in methods)
    # the dpo trial whose KL from the start is nearest to that of vcb
    chosen["dpo near"] = min(tried, key=lambda trial: abs(tried[trial]["kl"] - calibrated[chosen["vcb"]]["kl"]))
    for seed in args.seeds:
        found = {}
        for shape in shapes:
            at = {arm: f"{args.out}/{shape}/{arm.replace(' ', '-')}-{seed}" for arm in chosen}
            models = {"start": args.start} | {arm: online(args, at[arm], seed, arm.split()[0], shape, *trial.split("@"))
                                              for arm, trial in chosen.items()}
            got = figures(args, f"{args.out}/{shape}/eval", models, seed, {"worth": by_command(judge(args, "--shape", shape))})
            # gain: the change of the mean reward in standard deviations of the start model's
            # rewards, so that shapes can be compared
            for m, f in got.items():
                gain = (f["worth"] - got["start"]["worth"]) / (got["start"]["worth_std"] or math.nan)
                found[f"{shape}: {m}"] = f | {"gain": gain} | (variation(args, at[m]) if m != "start" else {})
        yield seed, found


# ---- results -----------------------------------------------------------------------------------------------------------

def shown(values, digits=3):
    mean, half = runs.interval(values)
    return f"{mean:.{digits}f}" + ("" if math.isnan(half) else f" ± {half:.{digits}f}")


def table(results, columns):
    seeds = list(results["seeds"])
    lines = ["| | " + " | ".join(columns.values()) + " |", "|---|" + "--:|" * len(columns)]
    for arm in results["seeds"][seeds[0]]:
        cells = []
        for key in columns:
            values = [results["seeds"][s][arm].get(key) for s in seeds]
            cells.append("" if None in values else shown(values, 0 if key in ("asked", "labelled", "no_difference") else 2 if key == "kl" else 3))
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return lines


def difference(results, key, a, b):
    """Returns (figure `key` of a) - (the same figure of b) per seed. a and b are arms, or pairs of arms, which
    stand for the difference of their two figures."""
    def value(seed, arm):
        figure = results["seeds"][seed]
        return figure[arm[0]][key] - figure[arm[1]][key] if isinstance(arm, tuple) else figure[arm][key]
    values = [value(s, a) - (value(s, b) if b else 0) for s in results["seeds"]]
    return f"{shown(values)} ({', '.join(f'{v:+.3f}' for v in values)})"


def spa_pairs(_):
    return [(f"{a} - {b}, {COLUMNS[key]}", key, a, b) for a, b in (("spa-1", "dpo"), ("spa-2", "dpo"), ("spa-3", "dpo"))
            for key in ("reward", "true", "win")]


def real_pairs(results):
    names = dict.fromkeys(arm.split(": ")[0] for arm in next(iter(results["seeds"].values())) if ": " in arm)
    return [(f"{n}: easy - {b}, {COLUMNS['true']}", "true", f"{n}: easy", f"{n}: {b}") for n in names for b in ("random", "hard")]


def vcb_pairs(_):
    own = [(f"{s}: vcb - {dpo}, {text}", key, f"{s}: vcb", f"{s}: {dpo}") for s in ("equal", "natural", "heavy")
           for dpo in ("dpo", "dpo near") for key, text in (("gain", "gain in worth, standard deviations"), ("worth_win", "win rate by worth"), ("kl", "KL"))]
    return own + [(f"(vcb - {dpo}) {a} minus (vcb - {dpo}) equal, gain", "gain", (f"{a}: vcb", f"{a}: {dpo}"), ("equal: vcb", f"equal: {dpo}"))
                  for dpo in ("dpo", "dpo near") for a in ("natural", "heavy")]


CLAIMS = {
    "spa": (spa, {k: COLUMNS[k] for k in ("reward", "win", "true", "true_win", "kl", "tokens")}, spa_pairs),
    "real": (real, {k: COLUMNS[k] for k in ("true", "true_win", "kl", "tokens")} | {
        "asked": "pairs asked", "labelled": "labelled", "no_difference": "of no true difference", "wrong": "wrong labels", "gap": "true gap"},
        real_pairs),
    "vcb": (vcb, {k: COLUMNS[k] for k in ("worth", "worth_win", "kl", "tokens")} | {"gain": "gain, standard deviations",
                                                                                         "variation": "variation of gaps"}, vcb_pairs),
}


def write(args):
    _, columns, pairs = CLAIMS[args.claim]
    results, folder = args.results, ROOT / args.out
    lines = table(results, columns) + ["", "Differences paired by seed:", ""]
    lines += [f"- {name}: {difference(results, key, a, b)}" for name, key, a, b in pairs(results)]
    lines += ["", "Tuning, reward (nats from the start):", ""]
    for arm, t in results["tuning"].items():
        lines.append(f"- {arm}: " + ", ".join(f"{n} {v['reward']:.3f} ({v['kl']:.1f})" for n, v in t["trials"].items()) + f"; takes {t['chosen']}")
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "results.md").write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("claim", choices=CLAIMS)
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--tune-seed", default="6", help="of the tuning trials alone")
    parser.add_argument("--rates", default="1e-4,2e-4,4e-4,8e-4", help="learning rates to try")
    parser.add_argument("--epochs", default="3,10", help="spa: passes over the labels to try")
    parser.add_argument("--spa-first", default="", help="spa: epochs@rate of its first stage, which is the dpo it is compared with, instead of the best")
    parser.add_argument("--spa-rates", default="1e-5,3e-5,1e-4", help="spa: learning rates of its iterations to try")
    parser.add_argument("--noise", default="0,0.5,1,2", help="real: scales of the annotator's noise")
    parser.add_argument("--flip", default="0.2,0.4", help="real: shares of flipped labels")
    parser.add_argument("--tune-noise", default="1", help="real: scale of the noise in tuning trials")
    parser.add_argument("--strengths", default="1,3", help="vcb: lambda to try; dpo's beta is 0.1 / strength")
    parser.add_argument("--prompts", type=int, default=0, help="of an iteration; 0: 512 for real, which has one, 64 for vcb")
    parser.add_argument("--max-kl", type=float, default=4, help="nats per answer that a tuning trial may be away from the start; 0: any")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="key=value for every run")
    parser.add_argument("--eval-set", nargs="*", default=[], help="key=value for every evaluation")
    parser.add_argument("--configs", default="configs/quickstart")
    parser.add_argument("--world", default="runs/quickstart/world")
    parser.add_argument("--start", default="runs/quickstart/sft/latest")
    parser.add_argument("--reward", default="runs/quickstart/reward/latest")
    parser.add_argument("--world-program", default="./build/plumb-world")
    parser.add_argument("--out", default="runs/claims", help="the claim's name is added")
    args = parser.parse_args()
    if not (ROOT / args.start).exists():
        sys.exit(f"{args.start} is not there: run ./launch/quickstart.sh first")
    runs.same_settings(f"{args.out}/{args.claim}", {k: v for k, v in vars(args).items() if k not in ("seeds", "ranks")})
    args.out = f"{args.out}/{args.claim}"
    args.prompts = args.prompts or (512 if args.claim == "real" else 64)
    for key in ("seeds", "rates", "epochs", "spa_rates", "noise", "flip", "strengths"):
        setattr(args, key, getattr(args, key).split(","))
    args.data_eval = [f"data.eval={args.world}/eval.jsonl", *args.eval_set]
    args.began = time.time()
    args.results = {"claim": args.claim, "tuning": {}, "seeds": {}}
    for seed, found in CLAIMS[args.claim][0](args):
        args.results["seeds"][seed] = found
        write(args)
        print(f"seed {seed}, {time.time() - args.began:.0f} s", flush=True)
    print((ROOT / args.out / "results.md").read_text(), end="")


if __name__ == "__main__":
    main()
