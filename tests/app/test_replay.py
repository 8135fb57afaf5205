#!/usr/bin/env python3
"""test_replay.py: checks that plumb names a loss or gradient that is not finite, does not change the
weights with it and writes a replay file. `plumb replay` computes that micro-batch again with the same
bits, for every training command, and also a micro-batch that is finite. Also checks that equal weights
always have the same fingerprint."""
import array
import json
import re
import shutil
import struct
import subprocess
import sys

import common

LENGTH = "reward.functions=[{name: length, target: 4}]"


def patched(bench, base, name, tensor, change):
    """Copies the model files of a checkpoint and applies change(values) to one tensor. Returns
    the copy."""
    out = bench.folder / name
    shutil.copytree(base, out)
    for extra in ("hashes.json", "trainer_state.h5"):
        (out / extra).unlink()
    path = out / "model.safetensors"
    raw = bytearray(path.read_bytes())
    n = struct.unpack("<Q", raw[:8])[0] + 8
    begin, end = json.loads(raw[8:n])[tensor]["data_offsets"]
    values = array.array("f", bytes(raw[n + begin:n + end]))
    change(values)
    raw[n + begin:n + end] = values.tobytes()
    path.write_bytes(raw)
    return out


def from_model(args, model):
    """Returns training arguments that start from a checkpoint instead of random weights."""
    return [f"model={model}" if a.startswith("model=") else a for a in args
            if a != "train.init=random"]


def replay(bench, path, *more):
    """Returns (output lines, messages) of `plumb replay`, or (None, None) if it failed."""
    result = bench.run("replay", path, *more)
    if not bench.check(result.code == 0, "replay failed:", result):
        return None, None
    return result.lines(), result.err


def equal_bits(bench, lines, what):
    for line in lines or ():
        bench.check(line.get("same_bits", True) is True, what, "other bits:", line)
    count = sum("same_bits" in line for line in lines or ())
    bench.check(count >= 3, what, "compared only", count, "things")


def healthy(bench, base, reward):
    """Checks that replays of micro-batches of every command and method have the same lines if the run
    had 1 or 2 ranks."""
    cases = {
        "sft": lambda out: bench.sft_args(out, "train.replay=3:2", steps=4),
        "reward": lambda out: bench.reward_args(out, base, "train.replay=2:3", steps=3),
        "psle": lambda out: bench.align_args(out, base, f"reward.model={reward}",
                                             "train.replay=3:1", "head_rows=7"),
        "dpo": lambda out: bench.align_args(out, base, LENGTH, "train.replay=4:3",
                                            "method.rank_loss=dpo", "method.tau=0",
                                            "checkpoint.keep_last=0"),
        "raft": lambda out: bench.align_args(out, base, LENGTH, "train.replay=1:0",
                                             method="raft"),
        "context_distillation": lambda out: bench.align_args(out, base, LENGTH,
                                                             "train.replay=4:2",
                                                             method="context_distillation"),
    }
    both = set(cases) # these on 1 and 2 ranks; the others only on 2 ranks, to save time
    for name in ("psle_curriculum", "vcb", "ipo", "rdo", "aps", "rrhf", "lire", "pro"):
        cases[name] = lambda out, name=name: bench.align_args(
            out, base, LENGTH, "train.replay=1:1", "max_new_tokens=8", method=name, iterations=1)
    cases["prefer"] = lambda out: ["prefer", *bench.reward_args(
        out, base, "train.replay=2:3", "method.name=aps", steps=3)[1:]]
    for name, args in cases.items():
        seen = []
        for ranks in (1, 2) if name in both else (2,):
            out = bench.folder / f"{name}-{ranks}"
            command = args(out)
            step, leaf = re.search(r"train.replay=(\d+):(\d+)", " ".join(map(str, command))).groups()
            bench.good(*command, ranks=ranks)
            lines, said = replay(bench, out / f"replay-{step}-{leaf}.h5")
            if lines is None:
                continue
            head = lines.pop(0)
            equal_bits(bench, lines, f"{name} on {ranks} ranks:")
            bench.check(head["outcome"] == "healthy" and head["step"] == int(step) and
                        head["micro_batch"] == int(leaf) and
                        head["weights"] == head["weights"].lower() and len(head["weights"]) == 16,
                        name, head)
            bench.check("the recorded bits" in said and "OTHER" not in said, name, said)
            seen.append(lines)
        bench.check(len(seen) > (name in both) and seen[0] == seen[-1], name,
                    "differs between 1 and 2 ranks")
    # A replay with other weights is refused. A changed log-prob in the file is detected.
    path = bench.folder / "sft-1" / "replay-3-2.h5"
    r = bench.run("replay", path, f"model={base}")
    bench.check(r.code == 6 and "model=DIR" in r.err, "a replay with other weights:", r)
    other = bench.folder / "other.h5"
    raw = bytearray(path.read_bytes())
    logp = struct.pack("<f", array.array("f", first_logp(path))[0])
    at = raw.find(logp)
    raw[at] ^= 1
    other.write_bytes(raw)
    lines, _ = replay(bench, other, f"model={path.parent}/replay-3")
    unlike = [x for x in lines or () if x.get("same_bits") is False]
    bench.check(len(unlike) == 1 and unlike[0].get("first_difference") == 0,
                "a changed log-prob is not seen:", unlike)
    for args, *words in ((["replay"], "replay"), (["replay", path.parent / "none.h5"], "none.h5"),
                         (["replay", path.parent / "run.json"], "run.json"),
                         (bench.sft_args(bench.folder / "no", "train.replay=3"), "train.replay")):
        r = bench.run(*args)
        bench.check(r.code not in (0, None) and all(w in r.err for w in words), "not refused:", r)


def first_logp(path):
    dump = subprocess.run(["h5dump", "-d", "/logp", "-b", "LE", "-o", str(path) + ".bin",
                           str(path)], capture_output=True, timeout=common.LIMIT, check=True)
    del dump
    with open(str(path) + ".bin", "rb") as f:
        return f.read(4)


def not_finite(bench, base, reward):
    def infinite(x):
        x[5] = float("inf")

    broken = patched(bench, base, "broken", "model.layers.1.mlp.up_proj.weight", infinite)
    score = patched(bench, reward, "broken-reward", "model.embed_tokens.weight", infinite)
    last = late_token(bench, reward)
    explode = ("learning_rate=10", "weight_decay=10", "epochs=9", "max_steps=60")
    cases = {  # case: (arguments of the run, stage of the failure, place in the message)
        "forward": (lambda out: from_model(bench.sft_args(out), broken), "forward", r"record \d+"),
        "gradient": (lambda out: from_model(bench.sft_args(out, *explode), base), "gradient",
                     r"first in \S+\[\d+\]"),
        "score": (lambda out: from_model(bench.reward_args(out, score), score), "forward",
                  r"record \d+, sample [01]"),
        "late": (lambda out: from_model(bench.reward_args(out, last), last), "forward",
                 r"micro-batch [23]"),
        "align": (lambda out: bench.align_args(out, base, LENGTH, "learning_rate=10",
                                               "weight_decay=10", "train.epochs=20",
                                               "reward.max_missing=1"), None, r"record \d+"),
    }
    for name, (args, stage, where) in cases.items():
        said, seen = [], []
        for ranks in (1, 2):
            out = bench.folder / f"bad-{name}-{ranks}"
            # longer than the test may take: no rank may wait for this time-out
            r = bench.run(*args(out), "comm.timeout=3600", ranks=ranks)
            files = sorted(out.glob("replay-*.h5"))
            message = re.search(r"step \d+[,:].*runs it again", r.err)
            if not bench.check(r.code == 8 and len(files) == 1 and message and
                               re.search(where, message.group(0)), name, "on", ranks, "ranks:",
                               files, r):
                continue
            said.append(message.group(0).replace(str(out), ""))
            bench.check(not list(out.glob("*.tmp")), name, "leaves", list(out.iterdir()))
            lines, _ = replay(bench, files[0])
            if lines is None:
                continue
            head = lines.pop(0)
            bench.check(stage in (None, head["outcome"]), name, head)
            bench.check(any(lines[-1].values()), name, "the replay is finite:", lines[-1])
            equal_bits(bench, lines, f"{name} on {ranks} ranks:")
            seen.append(lines)
        bench.check(len(said) == 2 and said[0] == said[1], name, "says", said)
        bench.check(len(seen) == 2 and seen[0] == seen[1], name, "differs between 1 and 2 ranks")


def late_token(bench, reward):
    """Returns a reward model in which the embedding of one token is infinite. Only later
    micro-batches contain this token, so the second of two ranks finds it."""
    config = json.loads((bench.world / "config.json").read_text())
    c, v = config["hidden_size"], config["vocab_size"]
    for token in range(v - 1, v // 2, -7):
        def infinite(x, token=token):
            x[token * c] = float("inf")
        out = bench.folder / f"late-{token}"
        model = patched(bench, reward, f"late-{token}-model", "model.embed_tokens.weight", infinite)
        r = bench.run(*from_model(bench.reward_args(out, model, steps=1), model))
        if re.search("step 1, micro-batch [23]", r.err):
            return model
        shutil.rmtree(model)
    bench.check(False, "no token occurs only in the later micro-batches")
    return reward


def rewards(bench, base, reward):
    """Checks that a reward that is not a number counts as missing, and that the message names its record,
    sample and source."""
    (bench.folder / "nan.py").write_text(
        "import json, sys\nfor line in sys.stdin:\n    x = json.loads(line)\n"
        "    bad = x['prompt_id'] % 5 == 1 and x['sample'] == 2\n"
        "    print('{\"score\": %s}' % ('1e999' if bad else 1), flush=True)\n")
    command = f"reward.command={sys.executable} {bench.folder}/nan.py"
    for ranks in (1, 2):
        out = bench.folder / f"nan-{ranks}"
        r = bench.good(*bench.align_args(out, base, command), ranks=ranks)
        lines = [x for x in r.err.splitlines() if "no finite reward" in x]
        bench.check(len(lines) == 2, "lines about missing rewards:", r.err)
        for line, row in zip(lines, common.metrics(out)):
            named = re.findall(r"prompt record (\d+) sample (\d)", line.partition(";")[0])
            bench.check(len(named) == row["reward_missing"] > 0 and
                        all(int(p) % 5 == 1 and s == "2" for p, s in named), "names", line)
            bench.check("reward.command gave none to prompt record" in line, "no source in", line)
    broken = patched(bench, reward, "nan-reward", "score.weight", lambda x: x.extend([x.pop() * 0 *
                                                                                    1e999]))
    r = bench.run(*bench.align_args(bench.folder / "nan-model", base, f"reward.model={broken}"))
    bench.check(r.code == 8 and "reward.model gave none to prompt record" in r.err and
                "x the score is not a finite number" in r.err, r)
    r = bench.run(*bench.align_args(bench.folder / "nan", base, command, "max_missing=0"), ranks=2)
    bench.check(r.code == 8 and re.search(r"prompt record \d+ sample 2", r.err), r)


def fingerprints(bench, base, reward):
    """Checks that the same weights have the same fingerprint in every file, and that a checkpoint is
    refused if its weights do not belong to its trainer state."""
    out = bench.folder / "marks"
    bench.good(*bench.align_args(out, base, f"reward.model={reward}", "checkpoint.keep_last=0"))
    run = json.loads((out / "run.json").read_text())
    saved = run["sessions"][0]["weights"]
    rows = common.metrics(out)
    bench.check([r["weights"] for r in rows] == list(saved.values()) and len(saved) == 2,
                "metrics and run.json:", [r["weights"] for r in rows], saved)
    before = [run["start_fingerprint"], rows[0]["weights"]]
    for row in rows:
        bench.check(row["logprob_max_diff"] == 0 and row["mismatch_kl"] == 0, "gap:", row)
    for i, expected in enumerate(before, 1):
        dump = subprocess.run(["h5dump", "-d", "/weight_fingerprint", "-y", "-w", "30",
                               str(out / f"rollouts/iteration-{i:04}.h5")], capture_output=True,
                              text=True, timeout=common.LIMIT, check=True).stdout
        marks = set(re.findall(r"\d+", dump.partition("DATA {")[2]))
        bench.check(marks == {str(int(expected, 16))}, "rollouts", i, marks, expected)
    for step, name in ((2, "checkpoint-2"), (4, "checkpoint-4")):
        dump = subprocess.run(["h5dump", "-a", "/weight_fingerprint",
                               str(out / name / "trainer_state.h5")], capture_output=True,
                              text=True, timeout=common.LIMIT, check=True).stdout
        bench.check(str(int(saved[name], 16)) in dump, name, step, dump, saved[name])
    # the files match hashes.json, but the weights are those of another step than the state
    mixed = out / "checkpoint-4"
    hashes = [json.loads((out / n / "hashes.json").read_text()) for n in ("checkpoint-2", mixed)]
    shutil.copy(out / "checkpoint-2" / "model.safetensors", mixed / "model.safetensors")
    text = json.dumps(hashes[1]).replace(json.dumps(entry(hashes[1])), json.dumps(entry(hashes[0])))
    (mixed / "hashes.json").write_text(text)
    r = bench.run(*bench.align_args(out, base, f"reward.model={reward}", f"resume={mixed}",
                                    "checkpoint.keep_last=0"))
    bench.check(r.code == 6 and saved["checkpoint-2"] in r.err and saved["checkpoint-4"] in r.err,
                "weights of another step:", r)


def entry(hashes):
    """Returns the entry for model.safetensors in the contents of a hashes.json."""
    files = hashes.get("files", hashes)
    if isinstance(files, dict):
        return files["model.safetensors"]
    return next(f for f in files if "model.safetensors" in f.values())


def test(bench):
    if not shutil.which("h5dump"):
        common.skip("there is no h5dump to read files with")
    base = bench.base()
    bench.good(*bench.reward_args(bench.folder / "reward", base))
    reward = bench.folder / "reward" / "latest"
    healthy(bench, base, reward)
    not_finite(bench, base, reward)
    rewards(bench, base, reward)
    fingerprints(bench, base, reward)


common.main(test, needs_mpi=True)
