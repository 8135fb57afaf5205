#!/usr/bin/env python3
"""test_longrope.py: checks rope_type longrope. Checkpoints, adapters and replay files store the longest sequence of the run.
A later command that would use the other rope factors (short_factor or long_factor) says so, and how to use the same ones."""
import json

import common

LIMIT = 64 # tokens; runs with longer sequences use long_factor
SAID = "was trained with short_factor (sequences of up to 64 tokens)"


def make_long(bench):
    """Changes the model's config.json to longrope with heads of size 16, that is 8 rotary pairs."""
    path = bench.world / "config.json"
    config = json.loads(path.read_text())
    config["rope_scaling"] = {"rope_type": "longrope", "factor": 4.0, "short_factor": [1.0] * 8,
                              "long_factor": [1.0 + 0.5 * i for i in range(8)]}
    config["original_max_position_embeddings"] = LIMIT
    path.write_text(json.dumps(config))


def logprob(bench, *more):
    r = bench.good("logprob", "input=-", *more,
                   stdin=json.dumps({"prompt": "alice asks for", "completion": " an apple"}) + "\n")
    return [x["logprobs"] for x in r.lines()], r.err


def whole(bench):
    out = bench.folder / "short"
    args = bench.sft_args(out, f"data.max_tokens={LIMIT}", "checkpoint.every=2", "train.replay=3:0", steps=4)
    bench.good(*args)
    note = json.loads((out / "latest/plumb_rope.json").read_text())
    bench.check(note == {"longest_sequence": LIMIT}, "the note is", note)
    same, quiet = logprob(bench, f"model={out}/latest", f"data.max_tokens={LIMIT}")
    other, said = logprob(bench, f"model={out}/latest")
    bench.check(SAID not in quiet and "short_factor is used" in quiet, "the same factors:", quiet)
    bench.check(SAID in said and "data.max_tokens=64 gives the factors of the training" in said, "other factors:", said)
    bench.check(same != other, "the factors do not differ", same)
    r = bench.good("replay", out / "replay-3-0.h5")
    bench.check(all(x.get("same_bits", True) for x in r.lines()), "replay", r.out)
    long = bench.folder / "long"
    r = bench.good(*[f"model={out}/latest" if a.startswith("model=") else a for a in bench.sft_args(long, steps=1)
                     if a != "train.init=random"])
    bench.check(SAID in r.err, "training goes on with other factors:", r.err)
    path = out / "latest/plumb_rope.json"
    path.write_text('{"longest_sequence": "x"}')
    r = bench.run("logprob", f"model={out}/latest", "input=-", stdin="")
    bench.check(r.code == 6 and "plumb_rope.json" in r.err and "longest_sequence" in r.err, "a damaged note:", r)
    return out / "checkpoint-2"


def adapter(bench, base):
    """Checks that the longest sequence is stored beside the adapter, and that merge keeps it."""
    out, merged = bench.folder / "adapter", bench.folder / "merged"
    bench.good(*[f"model={base}" if a.startswith("model=") else a for a in
                 bench.sft_args(out, f"data.max_tokens={LIMIT}", "lora.r=2", steps=1) if a != "train.init=random"])
    _, said = logprob(bench, f"model={out}/latest")
    bench.check(SAID in said, "an adapter with other factors:", said)
    bench.good("merge", f"model={out}/latest", f"output={merged}")
    _, said = logprob(bench, f"model={merged}")
    bench.check(SAID in said, "a merged adapter with other factors:", said)


def test(bench):
    make_long(bench)
    adapter(bench, whole(bench))


common.main(test)
