#!/usr/bin/env python3
"""test_saved_dtype.py: checks checkpoint.dtype. The weights in the files are rounded to the nearest bfloat16, config.json
has the dtype, and other commands read the files. A resumed run continues from the float32 weights and writes the same
bytes as an uninterrupted run."""
import array
import json
import shutil
import struct

import common


def header(path):
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    head = json.loads(raw[8:8 + size])
    head.pop("__metadata__", None)
    return {k: (v["dtype"], raw[8 + size + v["data_offsets"][0]:8 + size + v["data_offsets"][1]]) for k, v in head.items()}


def rounded(bits):
    """Returns the upper bits of a float32 rounded to bfloat16: to nearest, ties to even."""
    return bits + 0x7fff + (bits >> 16 & 1) >> 16


def test(bench):
    plain, half = bench.folder / "plain", bench.folder / "half"
    bench.good(*bench.sft_args(plain, "checkpoint.every=2", "keep_last=0", steps=4))
    bench.good(*bench.sft_args(half, "checkpoint.every=2", "keep_last=0", "checkpoint.dtype=bfloat16", steps=4))
    a, b = header(plain / "latest/model.safetensors"), header(half / "latest/model.safetensors")
    bench.check(a.keys() == b.keys() and {v[0] for v in a.values()} == {"F32"} and {v[0] for v in b.values()} == {"BF16"},
                "dtypes of the files")
    for name, (_, raw) in a.items():
        want = array.array("H", (rounded(x) for x in array.array("I", raw)))
        bench.check(want.tobytes() == b[name][1], name, "is not the rounded float32 weight")
    config = json.loads((half / "latest/config.json").read_text())
    bench.check(config["torch_dtype"] == "bfloat16", "config.json", config)

    resumed = bench.folder / "resumed"
    shutil.copytree(half, resumed, symlinks=True)
    shutil.rmtree(resumed / "checkpoint-4")
    (resumed / "latest").unlink()
    bench.good(*bench.sft_args(resumed, "checkpoint.every=2", "keep_last=0", "checkpoint.dtype=bfloat16", "resume=auto", steps=4),
               ranks=2 if bench.mpirun else 1)
    for name in ("model.safetensors", "trainer_state.h5"):
        bench.same(half / "latest" / name, resumed / "latest" / name, "resumed from rounded weights")
    r = bench.good("inspect", half / "latest")
    bench.check("in the weights files, which are rounded" in r.out, "inspect does not name both fingerprints", r.out)

    prompts = bench.folder / "p.jsonl"
    prompts.write_text('{"prompt": "ask: hi."}\n')
    bench.good("generate", f"model={half}/latest", f"prompts={prompts}", "max_new_tokens=4")
    source, narrow = bench.folder / "source", bench.folder / "narrow"
    start = [f"model={half}/latest", "train.init=checkpoint"]
    bench.good(*bench.sft_args(source, *start, "checkpoint.dtype=source", steps=1))
    bench.good(*bench.sft_args(narrow, *start, "checkpoint.dtype=float32", "checkpoint.optimizer=none", steps=1))
    bench.check({v[0] for v in header(source / "latest/model.safetensors").values()} == {"BF16"}, "dtype of the source")
    bench.check({v[0] for v in header(narrow / "latest/model.safetensors").values()} == {"F32"}, "float32 from a bfloat16 source")
    r = bench.run(*bench.sft_args(bench.folder / "no", "checkpoint.dtype=float16", steps=1))
    bench.check(r.code == 12 and "float32|bfloat16|source" in r.err, "float16", r)


common.main(test)
