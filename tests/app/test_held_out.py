#!/usr/bin/env python3
"""test_held_out.py: checks data.eval in training. The figures are those that other commands compute from
the checkpoint; they are the same on any number of ranks and after a kill; evaluation changes no
weight; the figures decide which checkpoint is the best. Also checks what a run saves: by default one
checkpoint, and with checkpoint.optimizer=none only weights."""
import json
import math
import shutil

import common

FUNCTIONS = "reward.functions=[{name: length, target: 9}]"
EVERY = ("train.eval_every=2", "checkpoint.every=2", "checkpoint.keep_last=0")


def cut(bench, name, first, n):
    path = bench.folder / f"{name}-{first}.jsonl"
    lines = (bench.world / f"{name}.jsonl").read_text().splitlines(keepends=True)
    path.write_text("".join(lines[first:first + n]))
    return path


def rows_of(out):
    return {r["step"]: r for r in common.metrics(out) if any(k.startswith("eval_") for k in r)}


def near(bench, got, want, what):
    bench.check(abs(got - want) <= 2e-5 * max(1, abs(want)), what, got, "expected", want)


def same_everywhere(bench, args_of, name):
    """Checks that the files are the same on 1, 2 and 4 ranks, and after a kill that follows the first
    checkpoint."""
    outs = [bench.folder / f"{name}-{ranks}" for ranks in (1, 2, 4)]
    for ranks, out in zip((1, 2, 4), outs):
        if ranks > 1 and not bench.mpirun:
            break
        bench.good(*args_of(out), ranks=ranks)
        bench.same_run(outs[0], out, f"{name} on {ranks} ranks")
    first = min(int(c.name.split("-")[1]) for c in outs[0].glob("checkpoint-*"))
    cold = common.rewind(outs[0], bench.folder / f"{name}-cold", first)
    bench.good(*args_of(cold), "resume=auto")
    bench.same_run(outs[0], cold, f"{name} resumed")
    plain = bench.folder / f"{name}-plain"
    args = [a for a in args_of(plain) if not a.startswith(("data.eval=", "train.eval_every=", "checkpoint.keep_best=", "checkpoint.best_metric="))]
    bench.good(*args)
    bench.same(outs[0] / "latest" / "model.safetensors", plain / "latest" / "model.safetensors",
               f"{name}: evaluation changes weights")
    bench.check(not rows_of(plain), name, "has figures of data.eval without it")
    report = (outs[0] / "report.html").read_text()
    bench.check("held out" in report, name, "report.html has no held-out curve")
    return outs[0]


def best(bench, out, key, least):
    rows = rows_of(out)
    pick = (min if least else max)(rows, key=lambda s: (rows[s][key], s if least else -s))
    bench.check((out / "best").resolve().name == f"checkpoint-{pick}", "best by", key, "is",
                (out / "best").resolve().name, {s: r[key] for s, r in rows.items()})


def sft(bench):
    held = cut(bench, "sft", 100, 21) # 21 is not a multiple of the micro-batch size
    out = same_everywhere(bench, lambda o: bench.sft_args(o, f"data.eval={held}", *EVERY,
                                                          "checkpoint.keep_best=1", steps=7), "sft")
    rows = rows_of(out)
    bench.check(sorted(rows) == [2, 4, 6, 7], "sft evaluates after steps", sorted(rows))
    text = held.read_text()
    for step in (2, 7):
        lines = bench.good("logprob", f"model={out}/checkpoint-{step}", "input=-", stdin=text).lines()
        tokens = sum(len(line["logprobs"]) for line in lines)
        near(bench, rows[step]["eval_loss"], -sum(line["sum"] for line in lines) / tokens, "eval_loss")
    best(bench, out, "eval_loss", True)
    r = bench.run(*bench.sft_args(bench.folder / "not-there", "data.eval=nowhere.jsonl", steps=2))
    bench.check(r.code not in (0, None) and "nowhere.jsonl" in r.err, "a file that is not there", r)
    out = bench.folder / "epochs"
    bench.good(*bench.sft_args(out, f"data.eval={held}", "data.limit=32", "train.epochs=3", steps=0))
    bench.check(sorted(rows_of(out)) == [2, 4, 6], "without eval_every: after steps", sorted(rows_of(out)))
    for more, words in ((["train.eval_every=2"], "data.eval is not set"),
                        (["checkpoint.keep_best=1", "checkpoint.best_metric=eval_loss", "checkpoint.every=2"], "data.eval"),
                        (["checkpoint.keep_best=1", f"data.eval={held}", "checkpoint.every=3", "train.eval_every=2"], "divides checkpoint.every")):
        r = bench.run(*bench.sft_args(bench.folder / "odd", *more, steps=4))
        bench.check(r.code not in (0, None) and words in r.err, more, r)
    out = bench.folder / "best-alone" # without checkpoint.every, each evaluation saves a checkpoint
    one = bench.folder / "one-checkpoint"
    r = bench.good(*bench.sft_args(one, "checkpoint.keep_best=1", steps=2))
    bench.check("checkpoint.every" in r.err and (one / "best").resolve().name == "checkpoint-2",
                "keep_best with one checkpoint at the end:", r, sorted(one.iterdir()))
    bench.good(*bench.sft_args(out, f"data.eval={held}", "train.eval_every=3", "checkpoint.keep_best=1", "checkpoint.keep_last=1", steps=9))
    best(bench, out, "eval_loss", True)


def reward(bench):
    base, held = bench.base(), cut(bench, "pairs", 150, 11)
    out = same_everywhere(bench, lambda o: bench.reward_args(o, base, f"data.eval={held}", *EVERY, "checkpoint.keep_best=2",
                                                             "checkpoint.best_metric=eval_rewards/accuracies", steps=4), "reward")
    rows = rows_of(out)
    for row in rows.values():
        near(bench, row["eval_rewards/margins"], row["eval_rewards/chosen"] - row["eval_rewards/rejected"], "margin")
        bench.check(0 <= row["eval_rewards/accuracies"] <= 1 and row["eval_loss"] > 0, "reward figures", row)
    best(bench, out, "eval_rewards/accuracies", False)


def prefer(bench):
    base, held = bench.base(), cut(bench, "pairs", 150, 10)
    out = same_everywhere(bench, lambda o: bench.prefer_args(o, base, f"data.eval={held}", "method.name=dpo", *EVERY, steps=4), "prefer")
    # Held-out records that are the training records. Nothing is learned yet, so every margin is 0.
    still = bench.folder / "still"
    bench.good(*bench.prefer_args(still, base, f"data.eval={held}", "learning_rate=1e-12", steps=1))
    row = rows_of(still)[1]
    near(bench, row["eval_loss"], math.log(2), "dpo at the start")
    near(bench, row["eval_rewards/margins"], 0, "dpo at the start")
    bench.check(rows_of(out)[4]["eval_loss"] != row["eval_loss"], "dpo's eval_loss stands still")


def align(bench):
    base, held = bench.base(), cut(bench, "prompts", 100, 9)
    out = same_everywhere(bench, lambda o: bench.align_args(o, base, FUNCTIONS, f"data.eval={held}", "train.eval_every=1",
                                                            "checkpoint.every=1", "checkpoint.keep_last=0", "checkpoint.keep_best=1",
                                                            "temperature=0.9", method="dpo"), "align")
    rows = rows_of(out)
    bench.check(len(rows) == 2, "align evaluates after steps", sorted(rows))
    for step, row in rows.items():
        answers = bench.good("generate", f"model={out}/checkpoint-{step}", f"prompts={held}", "temperature=0.9",
                             "max_new_tokens=16").lines()
        lengths = [len(line["completion_ids"]) for line in answers]
        near(bench, row["eval_completions/mean_length"], sum(lengths) / len(lengths), "mean length")
        bench.check(row["eval_reward_missing"] == 0 and math.isfinite(row["eval_reward"]), "align figures", row)
    best(bench, out, "eval_reward", False)
    r = bench.run(*bench.align_args(bench.folder / "judge", base, f"data.eval={held}", method="spa"))
    bench.check(r.code not in (0, None) and "data.eval" in r.err, "spa without a reward for data.eval", r)


def saving(bench):
    """Checks which checkpoints a run leaves by default, and checkpoints that have only weights."""
    held = cut(bench, "sft", 100, 5)
    out = bench.folder / "default"
    args = [a for a in bench.sft_args(out, steps=6) if not a.startswith("checkpoint.")]
    r = bench.good(*args)
    bench.check([c.name for c in out.glob("checkpoint-*")] == ["checkpoint-6"], "a default run leaves", list(out.glob("checkpoint-*")))
    row = common.metrics(out)[-1]
    bench.check("saving took" in r.err and "time/checkpoint_share" in row and "time/checkpoints" in row, "no share of time", r, row)
    whole = out
    for kind, light in (("last", ["checkpoint-2", "checkpoint-4"]), ("none", ["checkpoint-2", "checkpoint-4", "checkpoint-6"])):
        out = bench.folder / f"optimizer-{kind}"
        args = bench.sft_args(out, f"checkpoint.optimizer={kind}", "checkpoint.every=2", "checkpoint.keep_last=0", steps=6)
        bench.good(*args)
        bench.same(whole / "latest" / "model.safetensors", out / "latest" / "model.safetensors", f"optimizer: {kind}")
        for c in sorted(out.glob("checkpoint-*")):
            size = (c / "trainer_state.h5").stat().st_size
            weights = (c / "model.safetensors").stat().st_size
            bench.check((size < weights) == (c.name in light), kind, c.name, "has a state of", size, "bytes")
        r = bench.run(*[a if not a.startswith("output_dir=") else f"output_dir={bench.folder}/other" for a in args],
                      f"resume={out}/checkpoint-4")
        bench.check(r.code not in (0, None) and "checkpoint.optimizer" in r.err, "resume from weights alone", r)
    r = bench.run(*args, "resume=auto")
    bench.check(r.code not in (0, None) and "checkpoint.optimizer" in r.err and f"the newest: {out}/checkpoint-6 " in r.err,
                "resume=auto from weights alone", r)
    # a request to pause saves a checkpoint with moments, behind one of weights alone
    out = bench.folder / "light"
    args = bench.sft_args(out, "checkpoint.optimizer=none", "checkpoint.every=1", "checkpoint.keep_last=2", steps=60)
    *cuts, again = bench.in_sessions(*args)
    bench.check(again.code == 0, "weights alone, in", len(cuts) + 1, "sessions", again)
    one = bench.folder / "one-go"
    bench.good(*bench.sft_args(one, steps=60))
    bench.same(one / "latest" / "model.safetensors", out / "latest" / "model.safetensors", "weights alone, in sessions")
    bench.check(held.exists(), "held")


def schedule(bench):
    """Checks that a linearly falling learning rate reaches its end with the last iteration, even if some
    steps were skipped because all answers of a prompt had the same score."""
    base, out = bench.base(), bench.folder / "schedule"
    bench.good(*bench.align_args(out, base, "reward.functions=[{name: words, words: [you]}]", "lr_schedule=linear",
                                 "temperature=0.7", "micro_batch_size=1", "global_batch_size=1", "prompts_per_iteration=6",
                                 iterations=4, method="dpo", group=2))
    rows = [r for r in common.metrics(out) if "learning_rate" in r]
    taken = rows[-1]["step"] if rows else 0
    bench.check(0 < taken < 24, "steps taken of 24:", taken)
    for r in rows: # the last step of iteration i has at most number 6 i of 24
        high, low = 1e-3 * (24 - 6 * (r["iteration"] - 1)) / 24, 1e-3 * (24 - 6 * r["iteration"] + 1) / 24
        bench.check(low - 1e-12 <= r["learning_rate"] <= high + 1e-12, "rate of iteration", r["iteration"], r["learning_rate"])


def test(bench):
    sft(bench)
    reward(bench)
    prefer(bench)
    align(bench)
    saving(bench)
    schedule(bench)


if __name__ == "__main__":
    common.main(test)
