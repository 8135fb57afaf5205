#!/usr/bin/env python3
"""table.py PLUMB PLUMB_WORLD - compares runs on several numbers of ranks, also killed ones.

The markdown table of jobs x numbers of ranks x {uninterrupted, killed and resumed} has the sha256 of
all that must be equal. The script fails if two rows of a job differ.

In a killed run, a random rank is killed (SIGKILL) at a random moment, again and again; each time the
run is resumed on another number of ranks."""
import random
import shutil
import signal
import time

import exact
from exact import common

# numbers of ranks that are no power of two: weights are equal only up to rounding
TO_ROUNDING = (3, 5, 6)
# Options with which some jobs run once more: (option, what it does, jobs). All rows of a job must be
# equal.
VARIANTS = (
    ("train.shard=gradients", "gradients split",
     ("sft", "reward, lora", "psle, quantile, tokens", "psle, lora", "spa, previous", "prefer, dpo, lora", "sft, micro-batch tokens",
      "psle, micro-batch tokens")),
    ("frozen=sharded", "frozen layers in shares",
     ("spa", "selm", "real, easy", "prefer, dpo", "prefer, real", "prefer, dpo, lora, folder")))
# job: number of kills of its run in CI
QUICK = {"sft": 1, "sft, micro-batch tokens": 1, "psle, quantile, tokens": 2, "psle, messages, gemma3": 1}
ANNOUNCED = "{} ranks is no power of two"


def first_flip(one, out):
    """Compares the sampled tokens of two runs. Returns (iteration, answers with other tokens) of the first iteration
    in which tokens differ, or None. After the first step, weights that agree to rounding only can sample another token
    where a random number lies between two tokens; what follows is then another run."""
    for i, _ in enumerate(sorted((one / "rollouts").glob("iteration-????.h5")), 1):
        a, b = ([x["ids"] for x in common.rollout_answers(run, i)] for run in (one, out))
        if a != b:
            return i, sum(x != y for x, y in zip(a, b)) + abs(len(a) - len(b))
    return None


def plain(bench, job, ranks, threads, out, *more):
    """Makes an uninterrupted run. Returns the seconds from its first written file to its end."""
    p = job.start(out, *more, ranks=ranks, threads=threads)
    began = time.monotonic()
    common.until(p, lambda: exact.started(out))
    ready = time.monotonic() - began
    code, err = exact.end_of(p)
    if not bench.check(code == 0, job.name, "on", ranks, "ranks: exit code", code, err[-2000:]):
        raise SystemExit(1)
    return time.monotonic() - began - ready, err


def killed(bench, job, worlds, seconds, kills, rng, out, *more):
    """Makes a run with `kills` kills. Returns the numbers of ranks of its sessions, the last of
    which ran to the end. Every second session also has the options `more`."""
    # early: largest share of the remaining time that passes before a kill
    used, tries, early = [], 0, 0.9
    while len(used) < kills and tries < 60:
        tries += 1
        ranks = rng.choice([w for w in worlds if w != (used[-1] if used else None)])
        before = exact.started(out)
        p = job.start(out, "resume=auto", *(more if len(used) % 2 == 0 else ()), ranks=ranks)
        common.until(p, lambda b=before: exact.started(out) != b)
        time.sleep(rng.uniform(0, early * seconds[ranks] * (1 - len(used) / (kills + 1))))
        pids = exact.processes(p, bench.plumb)
        if pids:
            exact.send(rng.choice(sorted(pids.values())), signal.SIGKILL)
        code, err = exact.end_of(p)
        bench.check(code is not None, job.name, "hangs after a kill:", err[-2000:])
        if code == 0: # the run ended before the kill, so start again, with earlier kills
            shutil.rmtree(out)
            used, early = [], 0.8 * early
        else:
            used.append(ranks)
    if not bench.check(used, job.name, "could not be killed"):
        raise SystemExit(1)
    last = rng.choice([w for w in worlds if w != used[-1]])
    again = more if len(used) % 2 == 0 else ()
    code, err = exact.end_of(job.start(out, "resume=auto", *again, ranks=last))
    bench.check(code == 0, job.name, "cannot go on to its end:", code, err[-2000:])
    bench.check(not exact.leftovers(out), job.name, "leaves", exact.leftovers(out))
    return [*used, last]


def method_rows(bench, options, report, name, base, reward):
    job = exact.Job(bench, name, base, reward, options.option)
    rng = random.Random(f"{options.seed} {name}")
    folder = bench.folder / name.replace(", ", "-").replace(" ", "_")
    folder.mkdir()
    want, first, seconds, rows = None, None, {}, 0

    def row(ranks, threads, how, out):
        nonlocal want, first, rows
        got = exact.left_by(out)
        if want is None:
            want, first = got, out
        unlike = [k for k in got if got[k] != want[k]]
        bench.check(not unlike, name, ranks, "ranks,", how, ": differ:", unlike)
        same = "differ: " + ", ".join(unlike) if unlike else "yes"
        cells = [got[k][:12] for k in ("model", "state", "rollouts", "metrics")]
        report(f"| {name} | {ranks} | {threads} | {how} | {' | '.join(cells)} | {same} |")
        rows += 1
        if out != first:
            shutil.rmtree(out)

    setups = [(w, 1) for w in options.worlds] + [(2, 3)] + ([] if options.quick else [(1, 2)])
    for ranks, threads in setups:
        out = folder / f"{ranks}-{threads}"
        took, _ = plain(bench, job, ranks, threads, out)
        seconds.setdefault(ranks, took)
        row(ranks, threads, "in one go", out)
    variants = [(option, what) for option, what, names in VARIANTS if name in names]
    for option, what in variants:
        for ranks in options.worlds:
            out = folder / f"{option}-{ranks}"
            plain(bench, job, ranks, 1, out, option)
            row(ranks, 1, what, out)
    kills = QUICK[name] if options.quick else options.kills
    for number in range(1 if options.quick else options.runs):
        out = folder / f"killed-{number}"
        used = killed(bench, job, options.worlds, seconds, kills, rng, out)
        row(" > ".join(map(str, used)), 1, f"killed {len(used) - 1} times", out)
    for option, what in variants:
        out = folder / f"killed-{option}"
        used = killed(bench, job, options.worlds, seconds, kills, rng, out, option)
        row(" > ".join(map(str, used)), 1, f"killed {len(used) - 1} times, {what} in "
            "every second session", out)
    far = []
    for ranks in (TO_ROUNDING[:1] if options.quick else TO_ROUNDING):
        out = folder / f"rounding-{ranks}"
        _, err = plain(bench, job, ranks, 1, out)
        bench.check(ANNOUNCED.format(ranks) in err, name, ranks, "ranks are not announced:", err)
        d = exact.difference(exact.model(first), exact.model(out))
        flip = first_flip(first, out) if d >= 1e-3 else None
        bench.check(d < 1e-3 or (flip and flip[0] > 1 and flip[1] <= 2), name, "on", ranks, "ranks differs by", d, flip)
        far.append(f"{d:.1e}" + (f" (tokens of iteration {flip[0]})" if flip else ""))
    shutil.rmtree(folder)
    return rows, far, want["state file"]


def body(bench, options, report):
    base, reward = exact.prepare(bench)
    report.head("Same bytes on any rank count, in one go or killed and resumed")
    report(f"seed {options.seed}. Columns: sha256 (first 12 digits) of the final model.safetensors,"
           " of the values of trainer_state.h5 as h5dump shows them (that file and the rest of the"
           " checkpoint folder are compared, too), of every rollout record read through the"
           " masters, of metrics.jsonl without timings. Ranks `2 > 8 > 1`: killed on 2, then on 8,"
           " ended on 1.")
    report()
    report("| method | ranks | threads | how | model | state | rollouts | metrics | equal |")
    report("|---|---|---|---|---|---|---|---|---|")
    names = QUICK if options.quick else (options.only or exact.METHODS)
    result, began = {}, time.monotonic()
    for name in names:
        result[name] = method_rows(bench, options, report, name, base, reward)
    rows = sum(r[0] for r in result.values())
    report()
    report(f"{rows} rows, {bench.failures} differences, {time.monotonic() - began:.0f} s.")
    report()
    tried = TO_ROUNDING[:1] if options.quick else TO_ROUNDING
    report("Rank counts that are no power of two say so at the start and agree to rounding: "
           "|w - w1| / |w1| of the final weights against one rank. After a step, rounding can change a sampled "
           "token; where it did, the table names the iteration.")
    report()
    report(f"| method | {' | '.join(f'W = {w}' for w in tried)} |")
    report(f"|---|{'---|' * len(tried)}")
    for name, (_, far, _) in result.items():
        report(f"| {name} | {' | '.join(far)} |")


def main():
    p = exact.parser(__doc__.splitlines()[0])
    p.add_argument("--kills", type=int, default=3, help="of each killed run")
    p.add_argument("--runs", type=int, default=2, help="killed runs of each method")
    p.add_argument("--option", action="append", default=[],
                   help="KEY=VALUE of every run; on emulated GPUs device=cuda and dtype=bfloat16")
    p.add_argument("--only", action="append", choices=list(exact.METHODS), help="this method")
    options = p.parse_args()
    options.worlds = (1, 2, 4) if options.quick else exact.WORLDS
    exact.run(body, options)


if __name__ == "__main__":
    main()
