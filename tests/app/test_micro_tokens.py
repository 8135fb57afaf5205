#!/usr/bin/env python3
"""test_micro_tokens.py: checks train.micro_batch_tokens in every command and method. The micro-batches are
those that cut() computes. A run writes the same bytes on 1, 2 and 4 ranks, with sharded gradients and
after a kill. Loss and gradient are those with micro_batch_size, up to rounding. A record with too many
tokens is refused."""
import array
import json
import random
import re
import shutil
import struct

import common

WORLDS = (1, 2, 4)
SHARDED = ["train.shard=gradients", "comm.bucket=0"]
LENGTH = "reward.functions=[{name: length, target: 6}, {name: repetition, weight: 0.3}]"
ANSWER, GROUP = 8, 4  # generate.max_new_tokens and generate.group_size of the methods
# method: largest number of sequences of one prompt that are in the loss
SEQUENCES = {"psle": GROUP, "psle_curriculum": 2, "context_distillation": GROUP // 2, "raft": 1, "vcb": GROUP,
             "dpo": 2, "ipo": 2, "rdo": 2, "aps": 2, "spa": 2, "real": 2, "optune": 2, "selm": 3, "dlma": 2,
             "rrhf": GROUP, "lire": GROUP, "pro": GROUP}


def make_records(bench):
    """Writes records of token ids with 4 to 60 tokens. Records of ids have known lengths. Returns the lengths."""
    rng, lengths = random.Random(3), []
    with open(bench.folder / "mixed.jsonl", "w", encoding="utf-8") as f:
        for _ in range(120):
            lengths.append(rng.choice((rng.randint(4, 12), rng.randint(30, 60))))
            f.write(json.dumps({"ids": [rng.randint(5, 40) for _ in range(lengths[-1])],
                                "prompt_tokens": rng.randint(1, 3)}) + "\n")
    return lengths


def cut(lengths, limit, size):
    """Divides the records of one step, in order, into micro-batches of at most `limit` tokens
    and, if size is not 0, at most `size` records. Returns lists of record indices."""
    out, tokens = [], limit
    for i, n in enumerate(lengths):
        if tokens + n > limit or (size and len(out[-1]) == size):
            out.append([])
            tokens = 0
        out[-1].append(i)
        tokens += n
    return out


def sft(bench, out, *more, steps=6):
    return bench.sft_args(out, f"data.train={bench.folder}/mixed.jsonl", "micro_batch_size=0", "micro_batch_tokens=150",
                          "global_batch_size=20", "log_every=1", *more, steps=steps)


def records_of(bench, path):
    """Returns the record numbers of a replay file, from the output of `plumb inspect`."""
    text = re.search(r"records\s+(.*)", bench.good("inspect", path, threads=None).out).group(1)
    return [int(n) for n in re.findall(r"record (\d+)", text)]


def test_cuts(bench, lengths):
    """Checks that every micro-batch of the first step has the records that cut() gives."""
    for size in (0, 3):
        want = cut(lengths[:20], 150, size)
        for k in range(len(want) + 1):
            out = bench.folder / f"cut-{size}-{k}"
            bench.good(*sft(bench, out, f"micro_batch_size={size}", f"train.replay=1:{k}", "data.shuffle=false", steps=1))
            path = out / f"replay-1-{k}.h5"
            got = records_of(bench, path) if path.exists() else None
            bench.check(got == (want[k] if k < len(want) else None), "size", size, "micro-batch", k, ":", got, "expected", want)
    bench.check(bench.good("replay", path.parent.parent / "cut-0-2" / "replay-1-2.h5").code == 0, "a replay")


def least(bench, args):
    """Returns (the smallest micro_batch_tokens that is accepted, the last refusal). Each refusal names a number,
    which is tried next."""
    limit, said = 1, None
    for _ in range(100):
        r = bench.run("plan", *args, f"micro_batch_tokens={limit}", "plan.memory=1TB")
        found = re.search(r"has (\d+) tokens|can have (\d+) tokens", r.err)
        if r.code == 0 or not found:
            break
        bench.check("micro_batch_tokens" in r.err and re.search(r"\.jsonl:\d+: ", r.err), "refusal:", r)
        limit, said = int(found.group(1) or found.group(2)), r.err
    bench.check(r.code == 0 and said, "no limit is accepted:", r)
    return limit, said


def jobs(bench):
    base, seed = bench.base(), bench.folder / "seed"
    bench.good(*bench.prefer_args(seed, base, "method.name=dpo", steps=3))
    pairs = 2 * least(bench, bench.reward_args(bench.folder / "none", base, "micro_batch_size=0"))[0]
    prompts = 3 * least(bench, bench.align_args(bench.folder / "none", base, LENGTH, "micro_batch_size=0"))[0] // 2
    of_pairs = ["micro_batch_size=0", f"micro_batch_tokens={pairs}", "global_batch_size=14", "log_every=1"]
    of_prompts = ["micro_batch_size=0", f"micro_batch_tokens={prompts}"]
    return {
        "sft": lambda out, *more: sft(bench, out, "checkpoint.every=2", f"data.eval={bench.folder}/mixed.jsonl",
                                      "eval_every=3", *more),
        "reward": lambda out, *more: bench.reward_args(out, base, *of_pairs, *more, steps=4),
        "prefer, lora": lambda out, *more: bench.prefer_args(out, base, *of_pairs, "lora.r=3", *more, steps=4),
        "prefer, real": lambda out, *more: bench.prefer_args(
            out, base, *of_pairs, "method.name=real", "method.keep=0.5", *more, steps=4),
        "psle": lambda out, *more: bench.align_args(out, base, LENGTH, *of_prompts, *more),
        "spa": lambda out, *more: bench.align_args(out, base, *of_prompts, "epochs=2", f"model={seed}/latest",
                                               f"method.judge={base}", *more, method="spa", group=2),
        "vcb, balance": lambda out, *more: bench.align_args(out, base, LENGTH, *of_prompts, "generate.balance=length", *more,
                                                            method="vcb"),
        "dpo, sharded": lambda out, *more: bench.align_args(out, base, LENGTH, *of_prompts, "frozen=sharded", *more,
                                                            method="dpo"),
    }


def same_run(bench, a, b, what):
    """Checks that two runs have the same files in their last checkpoint, the same metrics and
    the same rollouts."""
    x, y = (common.tree(f"{out}/latest/") for out in (a, b))
    bench.check(x and x == y, what, "differ:", [k for k in x if x[k] != y.get(k)])
    x, y = ([common.timeless(r) for r in common.metrics(out)] for out in (a, b))
    bench.check(x == y, what, "metrics differ:", x, y)
    for master in sorted((a / "rollouts").glob("iteration-????.h5")):
        x, y = (common.rollout_records(out / "rollouts" / master.name) for out in (a, b))
        bench.check(x and x == y, what, master.name, "differs")


def test_bytes(bench, job):
    for name, args in job.items():
        whole = bench.folder / name.replace(", ", "-")
        bench.good(*args(whole))
        for ranks in WORLDS:
            for shard in ([], SHARDED):
                # A subset of the combinations, to save time.
                if (ranks, shard) in ((2, []), (4, SHARDED)) or (name == "sft" and (ranks > 1 or shard)):
                    out = bench.folder / f"{whole.name}-{ranks}-{len(shard)}"
                    bench.good(*args(out, *shard), ranks=ranks)
                    same_run(bench, whole, out, f"{name} on {ranks} ranks {shard}:")


def test_kill(bench, job):
    """Checks a run that is killed after its first checkpoint, and a run that max_time ends again and again. Both are resumed with
    other numbers of ranks."""
    for name in ("sft", "psle"):
        out = bench.folder / f"{name}-killed"
        p = bench.start(job[name](out, *SHARDED), ranks=2)
        common.until(p, (out / "latest").exists)
        common.kill_tree(p)
        p.communicate()
        bench.good(*job[name](out, "resume=auto"), ranks=4)
        same_run(bench, bench.folder / name, out, f"{name} after a kill:")
    out = bench.folder / "sft-sessions"
    *cuts, r = bench.in_sessions(*job["sft"](out, *SHARDED), ranks=WORLDS)
    bench.check(r.code == 0 and cuts, "in", len(cuts) + 1, "sessions:", r)
    same_run(bench, bench.folder / "sft", out, f"sft in {len(cuts) + 1} sessions:")


def tensors(path):
    """Returns the values of all tensors of a safetensors file as one list, and the file's
    metadata."""
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0] + 8
    values = array.array("f")
    values.frombytes(raw[n:])
    return values, json.loads(raw[8:n])["__metadata__"]


def near(a, b, most):
    return abs(a - b) <= most * max(abs(a), abs(b))


def test_rounding(bench, job):
    """Checks that loss and gradient do not depend on the division into micro-batches, up to
    rounding."""
    got = []
    for name, more in (("tokens", ["micro_batch_tokens=100"]), ("both", ["micro_batch_size=2", "micro_batch_tokens=100"]),
                       ("size", ["micro_batch_size=5"])):
        for ranks in (1, 2):
            out = bench.folder / f"gradient-{name}-{ranks}.safetensors"
            bench.good("gradient", f"model={bench.base()}", f"input={bench.folder}/mixed.jsonl", f"output={out}",
                       *more, *(SHARDED if ranks > 1 else []), ranks=ranks)
        bench.same(bench.folder / f"gradient-{name}-1.safetensors", out, f"gradient, {name}, on 2 ranks:")
        got.append(tensors(out))
    for values, head in got[:2]:
        far = sum((a - b) ** 2 for a, b in zip(values, got[2][0])) / sum(b * b for b in got[2][0])
        bench.check(far < 1e-12, "gradient:", far)
        bench.check(near(float(head["loss"]), float(got[2][1]["loss"]), 1e-9), "loss:", head, got[2][1])
    for name in job:
        for more in ([], ["method.loss_aggregation=sequence"]) if name == "psle" else ([],):
            rows = []
            for size in ([], ["micro_batch_tokens=0", "micro_batch_size=3"]):
                out = bench.folder / f"rounding-{name.replace(', ', '-')}-{len(size)}-{len(more)}"
                bench.good(*job[name](out, *size, *more))
                rows.append(common.metrics(out)[0])
            for key in ("loss", "grad_norm"):
                bench.check(near(rows[0][key], rows[1][key], 1e-4), name, key, rows[0][key], rows[1][key])


def test_methods(bench):
    """Checks for each method that the smallest accepted limit is the one computed here, and that the
    method runs with it."""
    base, texts = bench.base(), bench.world / "principles"
    (texts / "contrary.txt").write_text("be rude.\n")
    more = {"dlma": [f"method.principles={texts}/kind_and_helpful.txt", f"method.contrary={texts}/contrary.txt"],
            "optune": ["method.renew=0.5", "kl_to_start=false"]}
    for name, sequences in SEQUENCES.items():
        own = [] if name in ("spa", "dlma") else [LENGTH]
        args = bench.align_args(bench.folder / f"method-{name}", base, *own, "micro_batch_size=0", f"max_new_tokens={ANSWER}",
                                *more.get(name, []), method=name, iterations=2, prompts=8, group=GROUP)
        limit, said = least(bench, args)
        prompt, tokens = (int(n) for n in re.search(r"prompt of (\d+) tokens .* can have (\d+) ", said).groups())
        want = sequences * (prompt + ANSWER)
        bench.check(tokens == (max(want, GROUP * (ANSWER + 1)) if name == "real" else want) and tokens == limit,
                    name, "counts", tokens, "for a prompt of", prompt, "expected", want)
        bench.good(*args, f"micro_batch_tokens={limit}")


def test_refused(bench, job):
    base, out = bench.base(), bench.folder / "never"
    mixed = bench.folder / "mixed.jsonl"
    long = bench.folder / "long.jsonl"
    long.write_text(json.dumps({"ids": [9] * 151, "prompt_tokens": 2}) + "\n")
    for args, code, *words in (
            (sft(bench, out, f"data.train={long}"), 2, "long.jsonl:1: ", "151 tokens", "train.micro_batch_tokens (150)"),
            (sft(bench, out, f"data.eval={long}"), 2, "long.jsonl:1: ", "151 tokens"),
            (["gradient", f"model={base}", f"input={long}", f"output={out}", "micro_batch_tokens=150"], 2, "long.jsonl:1: "),
            (sft(bench, out, "micro_batch_tokens=0"), 12, "train.micro_batch_size: 0", "train.micro_batch_tokens"),
            (sft(bench, out, "micro_batch_tokens=-1"), 12, "micro_batch_tokens"),
            (["logprob", f"model={base}", f"input={mixed}", "micro_batch_tokens=9"], 12, "micro_batch_tokens"),
            (bench.align_args(out, base, LENGTH, "micro_batch_tokens=1000", "generated_tokens=900"), 12,
             "train.micro_batch_tokens", "train.generated_tokens"),
            (job["sft"](bench.folder / "sft", "micro_batch_tokens=151", "resume=auto"), 12, "train.micro_batch_tokens", "150")):
        r = bench.run(*args)
        bench.check(r.code == code and all(w in r.err for w in words), "not refused as", code, words, ":", r)
    bench.check(not out.exists(), "a refused run left its folder")
    r = bench.run("plan", "align", f"model={base}", "micro_batch_tokens=20", "max_new_tokens=16")
    bench.check(r.code == 2 and "plan: the prompt of 1 tokens" in r.err, "assumed prompts:", r)


def test_outputs(bench, lengths):
    """Checks what a run with only micro_batch_tokens writes about its micro-batches."""
    out = bench.folder / "only"
    bench.good(*[a for a in sft(bench, out, "data.shuffle=false", "report.to=mlperf", steps=1)
                 if not a.startswith("micro_batch_size=")])
    text = (out / "config.effective.yaml").read_text()
    bench.check(re.search(r"micro_batch_size: 0\b", text), "beside a limit of tokens alone:", text)
    most = max(len(cut(lengths[i:i + 20], 150, 0)) for i in range(0, len(lengths), 20))
    log = (out / "mlperf.log").read_text()
    bench.check(re.search(r'"gradient_accumulation_steps", "value": %d\b' % most, log), "expected", most, "in", log[:3000])


def test(bench):
    lengths = make_records(bench)
    job = jobs(bench)
    test_cuts(bench, lengths)
    test_bytes(bench, job)
    test_kill(bench, job)
    test_rounding(bench, job)
    test_methods(bench)
    test_refused(bench, job)
    test_outputs(bench, lengths)


if __name__ == "__main__":
    if not shutil.which("h5dump"):
        common.skip("there is no h5dump to read rollouts with")
    common.main(test, needs_mpi=True)
