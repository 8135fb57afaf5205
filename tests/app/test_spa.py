#!/usr/bin/env python3
"""test_spa.py: checks the method spa, in which the policy is its own judge. The rewards follow from
log-probs that `plumb logprob` gives for the policy and the judge. The share of smoothed labels is the
configured one. Pauses change nothing. One file runs the published procedure: a stage of DPO on given
pairs, then iterations with growing sets of prompts."""
import re

import common

STAGES = """\
output_dir: {out}
data: {{train: {world}/pairs.jsonl, prompts: {world}/prompts.jsonl, limit: 24}}
generate: {{max_new_tokens: 10, slots: 16, group_size: 2, temperature: 0.7}}
method: {{name: spa, reference: previous, judge: {base}, noise_window: 8, noise_share: 0.25}}
train: {{iterations: 1, global_batch_size: 4, micro_batch_size: 2, learning_rate: 1.0e-3}}
report: {{html: false, samples: 0}}
stages:
  - {{name: seed, command: prefer, model: {base}, method: {{name: dpo}}, train: {{max_steps: 4}}}}
  - {{name: spa-1, command: align, model: 'stage:seed', train: {{prompts_per_iteration: 8}},
      method: {{decoupling: 0.5}}}}
  - {{name: spa-2, command: align, model: 'stage:spa-1', train: {{prompts_per_iteration: 20}},
      method: {{decoupling: 0.25}}}}
"""


def spa_args(bench, out, seed, base, *more):
    return bench.align_args(out, seed, f"method.judge={base}", "method.reference=previous",
                            "noise_window=6", "noise_share=0.3", *more, method="spa",
                            iterations=1, prompts=20, group=2)


def rewards(bench, base, out):
    """Checks that the reward of every completion is beta (log pi - log pi_judge), with log-probs
    by `plumb logprob`."""
    answers = common.rollout_answers(out, 1)
    judged = bench.logprobs(base, [(a["prompt"], a["ids"]) for a in answers])
    bench.check(len(judged) == len(answers) == 40, "completions", len(judged))
    for i, (a, under) in enumerate(zip(answers, judged)):
        want = 0.1 * (a["logp"] - under)
        bench.check(abs(want - a["reward"]) < 1e-5, "reward", i, a["reward"], want)
    bench.check(max(abs(a["reward"]) for a in answers) > 1e-3, "all rewards are", answers)


def doubts(bench, seed, base, out):
    share = common.metrics(out)[-1]["spa/share_doubted"]
    bench.check(0.1 < share < 0.4, "share of smoothed labels", share)
    trusting = bench.folder / "trusting"
    bench.good(*spa_args(bench, trusting, seed, base, "noise_start=1"))
    bench.check(common.metrics(trusting)[-1]["spa/share_doubted"] == 0, "noise_start=1 smooths labels")
    plain = bench.folder / "plain"
    bench.good(*spa_args(bench, plain, seed, base, "decoupling=0"))
    a, b, c = (common.digest(o / "latest" / "model.safetensors") for o in (out, trusting, plain))
    bench.check(len({a, b, c}) == 3, "doubts change nothing", a, b, c)


def paused(bench, seed, base, out):
    """Checks that the window of margins is kept if the run is interrupted repeatedly between steps."""
    other = bench.folder / "paused"
    args = spa_args(bench, other, seed, base)
    *cuts, r = bench.in_sessions(*args, ranks=(1, 2) if bench.mpirun else (1,))
    bench.check(r.code == 0 and cuts, "never interrupted:", r)
    bench.same(out / "latest/model.safetensors", other / "latest/model.safetensors",
               f"spa with {len(cuts)} interruptions")
    row = [common.timeless(common.metrics(o)[-1]) for o in (out, other)]
    bench.check(row[0] == row[1], "metrics", row)


def published(bench, base):
    path, out = bench.folder / "spa.yaml", bench.folder / "stages"
    path.write_text(STAGES.format(out=out, world=bench.world, base=base))
    bench.good("run", path)
    lines = [common.metrics(out / name) for name in ("spa-1", "spa-2")]
    bench.check([rows[-1]["step"] for rows in lines] == [2, 5], "steps of the two iterations")
    for rows in lines:
        bench.check(abs(rows[0]["kl"]) < 1e-9 and rows[0]["reward"] != 0, "the first line", rows[0])


def moving(bench, seed, base):
    """Checks method.reference=previous: in each iteration the reference is the policy at its
    beginning, also after a pause between two steps."""
    whole, init, other = (bench.folder / f"moving-{n}" for n in ("whole", "init", "paused"))
    # With 24 epochs, the optimizer steps take most of the time of an iteration. So on any machine,
    # bench.in_sessions below interrupts the run at least once between two steps of an iteration.
    more = ("iterations=2", "train.epochs=24", "noise_start=0", "checkpoint.keep_last=0")
    bench.good(*spa_args(bench, whole, seed, base, *more))
    bench.good(*spa_args(bench, init, seed, base, *more, "method.reference=init"))
    a, b = ([common.timeless(r) for r in common.metrics(o)] for o in (whole, init))
    bench.check(a[0] == b[0] and a[1]["loss"] != b[1]["loss"], "previous and init:", a, b)
    *cuts, r = bench.in_sessions(*spa_args(bench, other, seed, base, *more),
                                 ranks=(1, 2) if bench.mpirun else (1,))
    bench.check(r.code == 0 and cuts, "never interrupted:", r)
    goes_on = re.findall(r"iteration 2 goes on: .* (\d+) steps taken", (other / "train.log").read_text())
    bench.check(any(int(n) > 0 for n in goes_on), "no pause between steps of iteration 2:", goes_on)
    bench.same_run(whole, other, f"a moving reference, {len(cuts)} interruptions:")


def test(bench):
    base, seed, out = bench.base(), bench.folder / "seed", bench.folder / "spa"
    bench.good(*bench.prefer_args(seed, base, "method.name=dpo", steps=4))
    seed = seed / "latest"
    bench.good(*spa_args(bench, out, seed, base))
    rewards(bench, base, out)
    doubts(bench, seed, base, out)
    paused(bench, seed, base, out)
    moving(bench, seed, base)
    published(bench, base)


if __name__ == "__main__":
    common.main(test)
