#!/usr/bin/env python3
"""test_ranks.py: checks that training writes the same bytes on 1, 2 and 4 ranks and with 1 and 2 threads."""
import shutil
import subprocess

import common

# (ranks, threads): all later set-ups are compared with the first one
SETUPS = ((1, 1), (2, 1), (1, 2), (4, 1))


def compare(bench, name, first, other, setup, rollouts):
    what = f"{name} with {setup[0]} ranks x {setup[1]} threads:"
    bench.same(first / "latest/model.safetensors", other / "latest/model.safetensors", what)
    bench.same(first / "latest/trainer_state.h5", other / "latest/trainer_state.h5", what)
    a, b = common.metrics(first), common.metrics(other)
    bench.check(len(a) > 0 and len(a) == len(b), what, len(a), "and", len(b), "rows of metrics")
    for x, y in zip(a, b):
        x, y = common.timeless(x), common.timeless(y)
        unlike = {k: (x.get(k), y.get(k)) for k in x.keys() | y.keys() if x.get(k) != y.get(k)}
        bench.check(not unlike, what, "metrics differ:", unlike)
        bench.check(rollouts == 0 or y.get("logprob_max_diff") == 0, what, "logprob_max_diff is",
                    y.get("logprob_max_diff"))
    masters = sorted(p.name for p in (first / "rollouts").glob("*") if "rank" not in p.name) \
        if rollouts else []
    bench.check(len(masters) == rollouts, what, "rollout masters", masters)
    for m in masters:
        x, y = (common.rollout_records(out / "rollouts" / m) for out in (first, other))
        bench.check(len(x) >= 12 and None not in x.values() and "logprob" in x, m, "holds",
                    sorted(x))
        bench.check(x.keys() == y.keys(), what, m, "datasets", sorted(x.keys() ^ y.keys()))
        for k in x.keys() & y.keys():
            bench.check(x[k] == y[k], what, m, k, "differs")


def on_all(bench, name, args_of, setups=SETUPS, rollouts=0):
    outs = []
    for ranks, threads in setups:
        out = bench.folder / f"{name}-{ranks}-{threads}"
        bench.good(*args_of(out), ranks=ranks, threads=threads)
        outs.append(out)
    for out, setup in zip(outs[1:], setups[1:]):
        compare(bench, name, outs[0], out, setup, rollouts)
    return outs[0] / "latest"


def mixed(bench, what, one, other, *words, cwd=None):
    """Checks that a run whose rank 1 has other arguments or another working directory than rank 0 is refused with these texts in
    the message, and writes nothing."""
    before = common.tree(bench.folder)
    line = [*common.MPIRUN, "-n", "1", bench.plumb, *one, ":", "-n", "1", bench.plumb, *other]
    if cwd: # a shell changes the directory, because launchers have different options for it
        line = line[:len(line) - len(other) - 1] + ["sh", "-c", 'cd "$0" && exec "$@"', cwd, bench.plumb, *other]
    p = subprocess.run(line, cwd=bench.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=common.LIMIT)
    bench.check(p.returncode != 0 and "rank 1 of 2" in p.stderr and all(w in p.stderr for w in words), what, "is not refused:", p.returncode, p.stderr[-2000:])
    bench.check(common.tree(bench.folder) == before, what, "leaves files")


def unlike(bench, base, reward):
    """Checks that a run is refused before it writes anything if a rank has other options, records or weights than rank
    0."""
    out = bench.folder / "mixed"
    sft, train = bench.sft_args(out), "data.train={}".format
    elsewhere = bench.folder / "elsewhere"
    for place in (bench.folder, elsewhere):
        place.mkdir(exist_ok=True)
        (place / "mixed.jsonl").write_text('{"prompt": "ask: hi.", "completion": " yes"}\n' * 4 + f'{{"prompt": "a", "completion": " {place.name[0]}"}}\n')
        shutil.copytree(base, place / "mixed-model")
    weights = elsewhere / "mixed-model" / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    mixed(bench, "another seed", [*sft, "seed=1"], [*sft, "seed=2"], "'seed: 2'", "'seed: 1'")
    mixed(bench, "another rate", sft, [*sft, "learning_rate=1e-7"], "train.learning_rate: 1e-07")
    mixed(bench, "another command", sft, ["doctor"], "plumb doctor", "plumb sft")
    records = [a for a in sft if not a.startswith(("data.train", "model=", "train.init"))] + [train("mixed.jsonl"), f"model={base}"]
    mixed(bench, "other records", records, records, "data.train", "mixed.jsonl", cwd=elsewhere)
    (elsewhere / "mixed.jsonl").write_bytes((bench.folder / "mixed.jsonl").read_bytes())
    same = [a for a in records if not a.startswith("model=")] + ["model=mixed-model"]
    mixed(bench, "other weights", same, same, "model: the weights in mixed-model", cwd=elsewhere)
    weights.write_bytes((bench.folder / "mixed-model" / "model.safetensors").read_bytes())
    config = elsewhere / "mixed-model" / "config.json"
    text = config.read_text()
    config.write_text(text.replace("{", '{"rope_theta": 20000,', 1) if "rope_theta" not in text else
                      text.replace('"rope_theta": 1', '"rope_theta": 2'))
    mixed(bench, "another config.json", same, same, "model: config.json in mixed-model", cwd=elsewhere)
    config.write_text(text)
    weights.write_bytes(raw)
    generate = ["generate", "model=mixed-model", "prompts=mixed.jsonl", "max_new_tokens=2", "output=mixed.out"]
    mixed(bench, "other weights, generate", generate, generate, "model: the weights in mixed-model", cwd=elsewhere)
    align = [*bench.align_args(out, base, "reward.model=mixed-reward", method="raft")]
    for place in (bench.folder, elsewhere):
        shutil.copytree(reward, place / "mixed-reward")
    score = elsewhere / "mixed-reward" / "model.safetensors"
    raw = bytearray(score.read_bytes())
    raw[-1] ^= 1
    score.write_bytes(raw)
    mixed(bench, "another reward model", align, align, "reward.model: the weights in mixed-reward", cwd=elsewhere)
    score.write_bytes((bench.folder / "mixed-reward" / "model.safetensors").read_bytes())
    tokenizer = elsewhere / "mixed-reward" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    mixed(bench, "another tokenizer of the reward model", align, align, "reward.model: tokenizer.json in mixed-reward", cwd=elsewhere)
    align = [*bench.align_args(out, base, f"reward.model={reward}", "method.reference=mixed-model", method="dpo")]
    mixed(bench, "another reference", align, align, "reference model mixed-model: the weights in mixed-model", cwd=elsewhere)
    (bench.folder / "mixed-eval.jsonl").write_bytes((bench.folder / "mixed.jsonl").read_bytes())
    held_out = [*records, "data.eval=mixed-eval.jsonl"]
    mixed(bench, "data.eval on one host only", held_out, held_out, "data.eval", "mixed-eval.jsonl", cwd=elsewhere)


def test(bench):
    if not shutil.which("h5dump"):
        common.skip("there is no h5dump to read rollouts with")
    base = on_all(bench, "sft", bench.sft_args)
    reward = on_all(bench, "reward", lambda out: bench.reward_args(out, base))

    def align(out):
        return bench.align_args(out, base, f"reward.model={reward}")
    aligned = on_all(bench, "align", align, rollouts=2)
    unlike(bench, base.resolve(), reward.resolve())
    # In every iteration, the reference of the KL divergence is the start model, not the current
    # policy.
    kl = [row.get("kl") for row in common.metrics(aligned.parent)]
    bench.check(len(kl) == 2 and kl[0] == 0 and kl[1] not in (0, None), "divergence from the start",
                kl)
    for method in ("raft", "context_distillation"):
        def other(out, method=method):
            return bench.align_args(out, base, f"reward.model={reward}", method=method)
        on_all(bench, method, other, SETUPS[:2], rollouts=2)


common.main(test, needs_mpi=True)
