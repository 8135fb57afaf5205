#!/usr/bin/env python3
"""test_inputs.py: checks that a resumed run must have the inputs of its start, and that two runs cannot write to
one folder."""
import shutil
import signal
import sys

import common

REWARD = """import json, sys, time
for line in sys.stdin:
    time.sleep({pause})
    print(json.dumps({{"score": 0.05 * len(json.loads(line)["completion"])}}), flush=True)
"""


def refused(bench, args, out, *named, **kw):
    """Checks that the run fails with a message that has these texts, and changes no file of
    `out`."""
    before = common.tree(out) if out.exists() else None
    r = bench.run(*args, **kw)
    bench.check(r.code not in (0, None) and r.code > 0, "not refused:", r)
    for word in named:
        bench.check(word in r.err, "the message does not name", word, "in", r)
    bench.check((common.tree(out) if out.exists() else None) == before, "a refused run changed", out)
    return r


def sft(bench, model, out, *more):
    args = bench.sft_args(out, "checkpoint.keep_last=0", *more, steps=4)
    args[args.index("checkpoint.every=0")] = "checkpoint.every=2"
    args[args.index("train.init=random")] = "train.init=checkpoint"
    return [a if not a.startswith("model=") else f"model={model}" for a in args]


def change(path, old, new):
    text = path.read_text()
    if old not in text:
        raise SystemExit(f"{path} does not hold {old}")
    path.write_text(text.replace(old, new))


def model_files(bench):
    """Checks changed, added and removed files of the model folder. The folder is a checkpoint of plumb;
    its hashes.json has the hashes at the time of writing, so plumb must hash the files as they are
    now."""
    model = bench.folder / "model"
    shutil.copytree(bench.base(), model)
    (model / "merges.txt").write_text("")
    whole = bench.folder / "run"
    bench.good(*sft(bench, model, whole))
    half = common.rewind(whole, bench.folder / "half", 2)

    def case(what, how, word):
        keep = bench.folder / "keep"
        shutil.copytree(model, keep)
        how()
        refused(bench, sft(bench, model, half, "resume=auto"), half, f"model: {word}", "run.json")
        shutil.rmtree(model)
        keep.rename(model)

    weights = model / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    case("weights", lambda: weights.write_bytes(raw), "model.safetensors has another content")
    case("tokenizer", lambda: change(model / "tokenizer_config.json", "{", '{"added": 1,'),
         "tokenizer_config.json has another content")
    for name, text in (("special_tokens_map.json", "{}"), ("added_tokens.json", "{}"),
                       ("chat_template.jinja", "{{ messages }}")):
        case(name, lambda n=name, t=text: (model / n).write_text(t), f"{name} is new")
    case("merges", lambda: (model / "merges.txt").unlink(), "merges.txt is gone")
    # Without a checkpoint the run starts again; it too must have the same inputs.
    begun = bench.folder / "begun"
    shutil.copytree(half, begun, symlinks=True)
    for path in begun.glob("checkpoint-*"):
        shutil.rmtree(path)
    kept = (model / "tokenizer_config.json").read_text()
    change(model / "tokenizer_config.json", "{", '{"added": 1,')
    refused(bench, sft(bench, model, begun, "resume=auto"), begun, "tokenizer_config.json",
            "no checkpoint")
    (model / "tokenizer_config.json").write_text(kept)
    bench.good(*sft(bench, model, begun, "resume=auto"))
    bench.same(whole / "latest/model.safetensors", begun / "latest/model.safetensors", "began again")
    # With the old inputs the run resumes and writes the same files.
    bench.good(*sft(bench, model, half, "resume=auto"))
    bench.same(whole / "latest/model.safetensors", half / "latest/model.safetensors", "went on")


def spellings(bench):
    """Checks that the inputs are compared in whatever way resume= names the checkpoint."""
    data = bench.folder / "data.jsonl"
    data.write_bytes((bench.world / "sft.jsonl").read_bytes())
    whole = bench.folder / "spelled"

    def args(out, *more):
        given = sft(bench, bench.base(), out, *more)
        return [a if not a.startswith("data.train=") else f"data.train={data}" for a in given]
    bench.good(*args(whole))
    (bench.folder / "link").symlink_to(whole / "checkpoint-2")
    lines = data.read_text().splitlines(keepends=True)
    data.write_text("".join([lines[1], lines[0], *lines[2:]]))
    for i, way in enumerate((f"{whole}/checkpoint-2", f"{whole}/checkpoint-2/",
                             f"{whole}/./checkpoint-2/.", f"{whole}//checkpoint-2//",
                             bench.folder / "link", "link", "./link/")):
        refused(bench, args(bench.folder / f"other-{i}", f"resume={way}"),
                bench.folder / f"other-{i}", "data.train has another content")
    # For a checkpoint that is outside of its run's folder, a message says that the inputs cannot be
    # compared.
    shutil.copytree(whole / "checkpoint-2", bench.folder / "taken")
    r = bench.good(*args(bench.folder / "apart", f"resume={bench.folder}/taken"))
    bench.check("run.json: there is no such file" in r.err, "no warning:", r)


def reward_command(bench):
    """Checks that a change of a file that a reward command uses is only a warning, because the command
    itself may write that file."""
    script = bench.folder / "reward.py"
    script.write_text(REWARD.format(pause=0))
    whole = bench.folder / "rewarded"

    def args(out, *more):
        return bench.align_args(out, bench.base(), f"reward.command={sys.executable} '{script}'",
                                "checkpoint.keep_last=0", *more)
    bench.good(*args(whole))
    half = common.rewind(whole, bench.folder / "rewarded-half", 2)
    script.write_text("# another one\n" + script.read_text())
    r = bench.good(*args(half, "resume=auto"))
    bench.check(f"reward.command (files): {script} has another content" in r.err, "no warning:", r)


def two_runs(bench):
    """Checks that a second run on the same output_dir is refused while the first one runs."""
    script = bench.folder / "slow.py"
    command = f"reward.command={sys.executable} {script}"
    for ranks in (1, 2):
        script.write_text(REWARD.format(pause=5))
        out = bench.folder / f"one-{ranks}"
        first = [*bench.align_args(out, bench.base(), command), "resume=auto"]
        p = bench.start(first, ranks=ranks)
        bench.check(common.until(p, (out / "metrics.jsonl").exists), "the first run does not begin")
        link = bench.folder / f"link-{ranks}"
        link.symlink_to(out)
        for other in (first, first[:-1], [*sft(bench, bench.base(), f"{out}/"), "resume=auto"],
                      bench.reward_args(f"{out.parent}/./{out.name}", bench.base()),
                      bench.prefer_args(link, bench.base(), "method.name=dpo"),
                      ["eval", f"eval.models=a={bench.base()}", "data.limit=1", command,
                       f"data.eval={bench.world}/prompts.jsonl", f"output_dir={link}//"]):
            r = bench.run(*other)
            bench.check(r.code not in (0, None), "not refused:", r)
            for word in ("in use by process", "plumb align", "run.lock"):
                bench.check(word in r.err, "the message does not name", word, "in", r)
        common.kill_tree(p)
        p.communicate(timeout=common.LIMIT)
        bench.check((out / "run.lock").exists(), "the lock of a killed run is gone already")
        # A killed run can be resumed at once. The resumed run removes the lock file and says so.
        script.write_text(REWARD.format(pause=0))
        r = bench.good(*first)
        bench.check("took over the lock" in r.err and "is gone" in r.err, "says nothing:", r)
        bench.check(not list(out.glob("run.lock*")), "leaves", list(out.glob("run.lock*")))


def failed_start(bench):
    """Checks that a run that fails before its first step leaves no folder, and that a run killed before its first step
    can start again."""
    out = bench.folder / "never" / "there"
    refused(bench, [*sft(bench, bench.folder / "nothing", out)], out, "there is no folder")
    bench.check(not out.parent.exists(), "a refused run leaves", out.parent)
    out.mkdir(parents=True)
    (out / "run.lock").write_text("")
    (out / "run.lock.host.1").write_text("{")
    r = bench.good(*sft(bench, bench.base(), out))
    bench.check("took over the lock" in r.err, "says nothing:", r)
    bench.check(not list(out.glob("run.lock*")), "leaves", list(out.glob("run.lock*")))


def launchers(bench):
    """Checks processes that a launcher starts without MPI: they must not each do the whole run."""
    out = bench.folder / "single"
    clean = {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}
    for env in ({**clean}, {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"},
                {"PMI_SIZE": "2", "PMI_RANK": "0"}, {"PMI_SIZE": "2", "PMI_RANK": "1", **clean}):
        refused(bench, sft(bench, bench.base(), out), out, "2 processes were started together",
                env=env)


def damaged_list(bench):
    """Checks that a checkpoint with a file that its hashes.json does not list is not used, and that a warning
    says so."""
    whole = bench.folder / "run"
    out = common.rewind(whole, bench.folder / "unlisted", 4)
    (out / "checkpoint-4" / "extra.safetensors").write_bytes(b"x")
    r = bench.good(*sft(bench, bench.folder / "model", out, "resume=auto"))
    bench.check("checkpoint-4/extra.safetensors" in r.err and "passed over" in r.err,
                "no warning:", r)


def test(bench):
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    launchers(bench)
    failed_start(bench)
    model_files(bench)
    damaged_list(bench)
    spellings(bench)
    reward_command(bench)
    two_runs(bench)


common.main(test, needs_mpi=True)
