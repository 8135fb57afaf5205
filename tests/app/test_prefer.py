#!/usr/bin/env python3
"""test_prefer.py: compares preference training with TRL's DPOTrainer step by step, and the weights after
two steps of DPO, of DPO with label smoothing and of IPO. The expected values come from
tests/reference/prefer_fixtures.py. Also checks several epochs, and what is refused."""
import array
import json
import struct

import common

FIXTURES = common.ROOT / "tests" / "fixtures" / "prefer"
FIGURES = ("loss", "grad_norm", "learning_rate", "rewards/chosen", "rewards/rejected",
           "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected",
           "logits/chosen", "logits/rejected", "entropy")


# Every completion of level.jsonl has 9 bytes (tokens) and the end token. TRL's IPO divides by this
# number of tokens.
LEVEL = 10


def args_of(out, method, *more, pairs="pairs"):
    return ["prefer", f"model={FIXTURES}/model", f"output_dir={out}", "data.shuffle=false",
            f"data.train={FIXTURES}/{pairs}.jsonl", f"method.name={method}", "global_batch_size=6",
            "micro_batch_size=2", "learning_rate=1e-3", "log_every=1", "checkpoint.every=0", *more]


def compare(bench, what, rows, theirs, scale=None, but=()):
    """Compares metrics with TRL's, with a relative tolerance of 1e-5: both programs compute in float32, but
    add up in other orders. scale: {metric: factor for TRL's value}. but: metrics that are not compared."""
    bench.check(len(rows) == len(theirs), what, len(rows), "steps")
    for step, (ours, trl) in enumerate(zip(rows, theirs), 1):
        for name in (x for x in FIGURES if x not in but):
            want = trl[name] * (scale or {}).get(name, 1)
            near = abs(ours[name] - want) <= 1e-5 * max(1, abs(want))
            bench.check(near, what, "step", step, name, ours[name], "TRL has", want)


def beside_trl(bench, trl):
    for k, run in enumerate(trl["steps"]):
        out = bench.folder / f"trl-{k}"
        beta = run["options"]["beta"]
        bench.good(*args_of(out, "dpo", f"method.beta={beta}"))
        compare(bench, f"beta {beta}", common.metrics(out), run["rows"])


def weights_of(path):
    """Returns the float32 tensors of a safetensors file: {name: values}."""
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    head = json.loads(raw[8:8 + size])
    head.pop("__metadata__", None)
    cut = lambda v: raw[8 + size + v["data_offsets"][0]:8 + size + v["data_offsets"][1]]
    assert all(v["dtype"] == "F32" for v in head.values())
    return {name: array.array("f", cut(v)) for name, v in head.items()}


def weights_beside_trl(bench, trl):
    """Compares the change of every tensor in two steps. AdamW's epsilon is large against the
    gradients, so that the change depends on the size of a gradient and not only on its sign."""
    start = weights_of(FIXTURES / "model/model.safetensors")
    # d: difference of the log-ratios of a pair; n: tokens of an answer. TRL's IPO loss is (d / n -
    # 1 / (2 beta))^2. With beta / n, our loss is n^2 times as large, and so is its gradient. AdamW
    # then needs n^2 times TRL's epsilon.
    n, ipo = LEVEL, f"method.beta={trl['ipo']['options']['beta'] / LEVEL}"
    level = {"loss": n * n, "grad_norm": n * n, "rewards/chosen": 1 / n, "rewards/rejected": 1 / n,
             "rewards/margins": 1 / n}
    for name, method, more, pairs, scale in (
            ("dpo", "dpo", ["method.beta=0.5"], "pairs", None),
            ("doubt", "dpo", ["method.beta=0.5", "label_smoothing=0.2"], "pairs", None),
            ("ipo", "ipo", [ipo], "level", level)):
        out = bench.folder / f"weights-{name}"
        bench.good(*args_of(out, method, *more, "max_steps=2", "epsilon=1", "max_grad_norm=0",
                            "learning_rate=0.1", "dtype=float32", pairs=pairs))
        # In the case `doubt`, each of TRL's micro-batches has one pair, and TRL averages these metrics over
        # micro-batches, not over tokens. So they are not compared.
        by_token = ("logits/chosen", "logits/rejected", "entropy") if name == "doubt" else ()
        compare(bench, name, common.metrics(out), trl[name]["rows"], scale, by_token)
        ours, theirs = weights_of(out / "latest/model.safetensors"), \
            weights_of(FIXTURES / f"{name}.safetensors")
        bench.check(ours.keys() == start.keys(), name, "has other tensors", sorted(ours))
        for key, old in start.items():
            moved = max(abs(x - y) for x, y in zip(theirs[key], old))
            off = max(abs(x - y) for x, y in zip(theirs[key], ours[key]))
            bench.check(off <= 1e-4 * moved, name, key, "moved by", moved, "and is off by", off)


def logprobs_beside_trl(bench, trl):
    """Compares the mean log-prob of the answers in the first batch under the start model."""
    pairs = [json.loads(line) for line in (FIXTURES / "pairs.jsonl").read_text().splitlines()][:6]
    for side in ("chosen", "rejected"):
        given = bench.folder / f"{side}.jsonl"
        given.write_text("".join(json.dumps({"prompt": p["prompt"], "completion": p[side] + "<eos>"}) + "\n"
                                 for p in pairs))
        rows = bench.good("logprob", f"model={FIXTURES}/model", f"input={given}").lines()
        mean = sum(row["sum"] for row in rows) / len(rows)
        want = trl["steps"][0]["rows"][0][f"logps/{side}"]
        bench.check(abs(mean - want) <= 1e-6 * abs(want), side, mean, "TRL has", want)


def epochs(bench):
    """Checks training over several epochs: one and two ranks write the same weights; the first margin is 0; the last
    step orders most pairs."""
    outs = []
    for ranks in (1, 2) if bench.mpirun else (1,):
        out = bench.folder / f"epochs-{ranks}"
        bench.good(*args_of(out, "aps", "data.shuffle=true", "epochs=3"), ranks=ranks)
        outs.append(out)
    bench.same(outs[0] / "latest/model.safetensors", outs[-1] / "latest/model.safetensors",
               "three epochs on 1 and 2 ranks")
    first, last = common.metrics(outs[0])[0], common.metrics(outs[0])[-1]
    bench.check(first["rewards/margins"] == 0, "the first step's margin is", first)
    bench.check(last["rewards/accuracies"] > 0.8, "after three epochs", last)


def refusals(bench):
    for method, word in (("psle", "dpo, ipo, aps"), ("rdo", "score_chosen"),
                         ("vcb", "dpo, ipo, aps"), ("ppo", "unknown method")):
        out = bench.folder / f"refused-{method}"
        r = bench.run(*args_of(out, method))
        bench.check(r.code not in (0, None) and word in r.err, method, "is not refused:", r)
        bench.check(not out.exists(), method, "was refused and left", out)


def test(bench):
    trl = json.loads((FIXTURES / "trl.json").read_text())
    beside_trl(bench, trl)
    weights_beside_trl(bench, trl)
    logprobs_beside_trl(bench, trl)
    epochs(bench)
    refusals(bench)


common.main(test)
