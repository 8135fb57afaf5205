#!/usr/bin/env python3
"""test_stages.py: checks `plumb run` with a file of several stages. It writes the same bytes on any number
of ranks and with interruptions.
Finished stages are not run again. Stages that do not fit together are refused."""
import json
import os
import shutil

import common

STAGES = """\
output_dir: {out}
seed: 1
data: {{train: {world}/pairs.jsonl, prompts: {world}/prompts.jsonl}}
generate: {{max_new_tokens: 12, slots: 16, group_size: 2}}
train: {{global_batch_size: 8, micro_batch_size: 2, learning_rate: 1.0e-3, log_every: 1}}
checkpoint: {{every: 1}}
report: {{html: false, samples: 0}}
stages:
  - name: sft
    command: sft
    model: {world}
    data: {{train: {world}/sft.jsonl}}
    train: {{init: random, max_steps: 6, learning_rate: 3.0e-3}}
  - name: judge
    command: reward
    model: stage:sft
    train: {{max_steps: 4}}
  - {{name: seed-1, command: prefer, model: 'stage:sft', method: {{name: dpo}}, train: {{max_steps: 3}}}}
  - name: online
    command: align
    model: stage:seed-1
    reward: {{model: 'stage:judge'}}
    method: {{name: dpo, reference: previous}}
    train: {{iterations: 3, prompts_per_iteration: 12}}
  - name: again
    command: align
    model: stage:online
    reward: {{model: 'stage:judge'}}
    method: {{name: dpo, reference: 'stage:sft'}}
    train: {{iterations: 1, prompts_per_iteration: 8, kl_to_start: false}}
  - name: table
    command: eval
    data: {{limit: 8, eval: {world}/prompts.jsonl}}
    reward: {{model: 'stage:judge'}}
    eval: {{models: ['sft=stage:sft', 'last=stage:again']}}
"""
TRAINED = ("sft", "judge", "seed-1", "online", "again")


def write(bench, name, text=STAGES, **more):
    path = bench.folder / f"{name}.yaml"
    path.write_text(text.format(out=bench.folder / name, world=bench.world, **more))
    return path, bench.folder / name


def left_by(out):
    """Returns the digests of the weights and the metrics of every stage, and the figures of the
    evaluation stage."""
    got = {}
    for name in TRAINED:
        got[name] = (common.digest(out / name / "latest" / "model.safetensors"),
                     [common.timeless(r) for r in common.metrics(out / name)])
    table = json.loads((out / "table" / "eval.json").read_text())
    got["table"] = [(m["name"], m["reward"]) for m in table["models"]]
    return got


def same(bench, want, got, what):
    bench.check([k for k in want if got[k] != want[k]] == [], what, "differs in",
                [k for k in want if got[k] != want[k]])


def by_hand(bench, out):
    """Runs one stage as a separate command, on the folders that stage:NAME stands for, and
    checks that it gives the same files."""
    alone = bench.folder / "alone"
    bench.good(*bench.align_args(alone, out / "online" / "latest", "seed=1", "max_new_tokens=12",
                                 f"method.reference={out}/sft/latest", "kl_to_start=false",
                                 f"reward.model={out}/judge/latest", "data.prompts=" +
                                 f"{bench.world}/prompts.jsonl", method="dpo", prompts=8, group=2,
                                 iterations=1))
    bench.same(out / "again" / "latest" / "model.safetensors",
               alone / "latest" / "model.safetensors", "a stage and its command")


def whole(bench):
    path, out = write(bench, "one")
    first = bench.good("run", path)
    want = left_by(out)
    bench.check(first.err.count("stage ") >= 6, "stages are announced", first.err[-800:])
    chained = json.loads((out / "online" / "run.json").read_text())["start_fingerprint"]
    saved = json.loads((out / "seed-1" / "run.json").read_text())["sessions"][0]["weights"]
    bench.check(chained == saved["checkpoint-3"], "online starts from", chained, "not", saved)
    kl = common.metrics(out / "online")[-1]
    bench.check(kl["rewards/margins"] is not None and abs(kl["kl"]) > 0, "online's last line", kl)
    bench.check(not {"psle/tau", "psle/share_rank", "psle/reward_principled"} & set(kl),
                "dpo speaks of a threshold that it has not:", kl)
    by_hand(bench, out)
    if bench.mpirun:
        path, out = write(bench, "two")
        bench.good("run", path, ranks=2)
        same(bench, want, left_by(out), "two ranks")
    return want


def again(bench, want):
    """Checks that finished stages are not run again, and that nothing is overwritten without an option that
    asks for it."""
    path, out = bench.folder / "one.yaml", bench.folder / "one"
    before = common.tree(out)
    r = bench.good("run", path, "resume=auto")
    bench.check(r.err.count("is finished") == 6, "six stages are finished:", r.err)
    # A model for every stage that does not start from another stage.
    r = bench.good("run", path, "resume=auto", f"model={bench.world}")
    bench.check(r.err.count("is finished") == 6, "links of stages are overwritten:", r.err)
    bench.check(common.tree(out) == before, "a finished run was written to")
    r = bench.run("run", path)
    bench.check(r.code != 0 and "resume=auto" in r.err, "a second run is refused", r)
    r = bench.run("run", path, "resume=auto", "seed-1:method.beta=0.2")
    bench.check(r.code != 0 and "stage seed-1 was finished with another" in r.err and
                "method.beta: 0.1 in the finished stage, 0.2 now" in r.err, "another beta", r)
    bench.check(common.tree(out) == before, "a refused run was written to")
    # If a stage runs again with other options, the stages that start from its result do not fit any
    # more.
    shutil.rmtree(out / "seed-1")
    r = bench.run("run", path, "resume=auto", "seed-1:max_steps=2")
    bench.check(r.code != 0 and "stage online began with weights" in r.err, "a stale stage", r)
    shutil.rmtree(out / "seed-1")
    bench.good("run", path, "resume=auto")
    same(bench, want, left_by(out), "a stage done again")


def other_inputs(bench, want):
    """Checks that a finished stage is not skipped if one of its inputs has changed."""
    path, out = bench.folder / "one.yaml", bench.folder / "one"
    kept = bench.folder / "judge-kept"
    (out / "judge").rename(kept)
    r = bench.run("run", path, "resume=auto", "judge:max_steps=2")
    bench.check(r.code != 0 and "stage online is finished, but reward.model" in r.err,
                "another reward model", r)
    shutil.rmtree(out / "judge")
    kept.rename(out / "judge")
    pairs = bench.world / "pairs.jsonl"
    text = pairs.read_text()
    pairs.write_text("".join(text.splitlines(keepends=True)[::-1]))
    r = bench.run("run", path, "resume=auto")
    bench.check(r.code != 0 and "stage judge is finished, but data.train" in r.err, "pairs", r)
    pairs.write_text(text)
    r = bench.good("run", path, "resume=auto", "table:eval.samples=2")
    bench.check(r.err.count("is finished") == 5 and "table: its options changed" in r.err,
                "another evaluation", r)
    table = json.loads((out / "table" / "eval.json").read_text())
    bench.check(table["samples"] == 2, "an evaluation's new options are not used", table)
    bench.good("run", path, "resume=auto")
    same(bench, want, left_by(out), "an evaluation done again")


def interrupted(bench, want):
    """Checks repeated interruptions by train.max_time with changing numbers of ranks, and one interruption
    by SIGKILL."""
    path, out = write(bench, "broken")
    sessions = bench.in_sessions("run", path, ranks=(1, 2) if bench.mpirun else (1,))
    bench.check(sessions[-1].code == 0 and len(sessions) > 2, "ended after", len(sessions), "sessions", sessions[-1])
    same(bench, want, left_by(out), f"{len(sessions)} sessions")
    path, out = write(bench, "killed")
    for _ in range(10): # repeats until the kill comes before the end of the run
        shutil.rmtree(out, ignore_errors=True)
        p = bench.start(["run", path, "resume=auto"])
        common.until(p, (out / "online" / "latest").exists)
        common.kill_tree(p)
        p.communicate()
        if p.returncode != 0:
            break
    bench.check(p.returncode != 0, "a run was never killed before its end")
    bench.good("run", path, "resume=auto")
    same(bench, want, left_by(out), "killed in the fourth stage")


def refusals(bench):
    head = "output_dir: {out}\nmodel: {world}\n"
    cases = {
        "no-list": (head, "expected a list `stages`"),
        "twice": (head + "stages:\n  - {{name: a, command: sft}}\n  - {{name: a, command: sft}}\n",
                  "a second stage 'a'"),
        "command": (head + "stages: [{{name: a, command: generate}}]\n", "expected sft, reward"),
        "name": (head + "stages: [{{name: a/b, command: sft}}]\n", "expected letters"),
        "nameless": (head + "stages: [{{command: sft}}]\n", "the stage has no name"),
        "later": (head + "stages: [{{name: a, command: sft, model: 'stage:b'}}, "
                  "{{name: b, command: sft}}]\n", "there is no earlier stage 'b'"),
        "device": (head + "stages: [{{name: a, command: sft, device: ref}}]\n",
                   "device applies to the whole run"),
        "unknown": (head + "stages: [{{name: a, command: sft, method: {{nam: x}}}}]\n",
                    "unknown key 'method.nam'"),
    }
    # These files are refused before the first stage begins.
    first = (head + "data: {{train: {world}/pairs.jsonl, prompts: {world}/prompts.jsonl}}\n"
             "stages:\n  - {{name: a, command: sft, train: {{init: random, max_steps: 1}}}}\n"
             "  - {{name: b, model: 'stage:a', command: ")
    for name, rest, words in (
            ("method", "align, method: {{name: spaa}}", 'stage b: method.name: unknown method "spaa"'),
            ("group", "align, method: {{name: dpo}}, generate: {{group_size: 1}}", "stage b: group_size = 1"),
            ("reward", "align, method: {{name: dpo}}, generate: {{group_size: 2}}",
             "stage b: reward: nothing"),
            ("judge", "align, method: {{name: spa, judge: nowhere}}, generate: {{group_size: 2}}",
             "stage b: method.judge: there is no file or folder nowhere"),
            ("file", "prefer, data: {{train: no.jsonl}}", "stage b: data.train: there is no"),
            ("given", "prefer, method: {{name: vcb}}", "stage b: method.name: vcb"),
            ("models", "eval, data: {{eval: '{world}/eval.jsonl'}}", "stage b: eval.models")):
        cases[f"ahead-{name}"] = (first + rest + "}}\n", words)
    for name, (text, words) in cases.items():
        path, out = write(bench, f"bad-{name}", text)
        r = bench.run("run", path)
        bench.check(r.code not in (0, None) and words in r.err, name, "is not refused:", r)
        bench.check(not out.exists(), name, "was refused and left", out)
    path, out = write(bench, "bad-arguments")
    for argument, words in (("sfd:epochs=2", "there is no stage 'sfd'"),
                            ("sft:method.beta=1", "no stage's command uses it"),
                            ("method.bta=1", "did you mean"), ("resume=/tmp", "never or auto")):
        r = bench.run("run", path, argument)
        bench.check(r.code not in (0, None) and words in r.err, argument, "is not refused:", r)
        bench.check(not out.exists(), argument, "was refused and left", out)
    for reference, words in (("nowhere", "method.reference: there is no folder nowhere"),):
        r = bench.run(*bench.prefer_args(out, bench.base(), "method.name=dpo",
                                         f"method.reference={reference}"))
        bench.check(r.code not in (0, None) and words in r.err, reference, "is not refused:", r)
    # prefer has a single iteration, so `previous` is the policy with which prefer starts, as `init`
    # is.
    outs = [bench.folder / name for name in ("init", "previous")]
    for o in outs:
        bench.good(*bench.prefer_args(o, bench.base(), "method.name=dpo",
                                      f"method.reference={o.name}", steps=3))
    bench.same(*(o / "latest/model.safetensors" for o in outs), "prefer's init and previous")


def test(bench):
    os.chdir(bench.folder)
    want = whole(bench)
    again(bench, want)
    other_inputs(bench, want)
    interrupted(bench, want)
    refusals(bench)


common.main(test)
