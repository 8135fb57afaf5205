#!/usr/bin/env python3
"""test_lora_fused.py: compares LoRA with peft for architectures whose modules have other names than
Llama's (Phi-3, GPT-2, GPT-NeoX, StarCoder2, GLM-4) or whose files have rows in another order (Helium,
GLM-4): log-probs, gradients (with the names and shapes of the files), two AdamW steps, merged
weights, the adapter's files. The expected values come from tests/reference/lora_fused_fixtures.py.
Also checks runs on several ranks, and that unknown module names are refused."""
import json
import shutil

import common
from test_lora import CONFIG, WEIGHTS, near, same, tensors

MODELS = common.ROOT / "tests" / "fixtures" / "model"
LORA = common.ROOT / "tests" / "fixtures" / "lora_fused"
FAMILIES = {"phi3": "phi3_short", "gpt2": "gpt2", "gpt_neox": "gpt_neox", "starcoder2": "starcoder2",
            "helium": "helium", "glm4": "glm4"}
# architecture: (name of one of its modules, two names that it does not have)
NAMES = {"phi3": ("qkv_proj", "q_proj", "c_attn"), "gpt2": ("c_attn", "q_proj", "qkv_proj"),
         "gpt_neox": ("query_key_value", "q_proj", "c_attn"), "starcoder2": ("c_proj", "gate_proj", "attn.c_proj"),
         "helium": ("q_proj", "qkv_proj", "gate_up_proj"), "glm4": ("gate_up_proj", "up_proj", "qkv_proj")}
MOST = "data.max_tokens=40"  # longest sequence, by which Phi-3's longrope chooses its factors


def with_tokenizer(bench, name):
    """Returns a copy of the model with a tokenizer of as many tokens as the model has. sft needs a
    tokenizer, although the records are ids."""
    folder = bench.folder / name
    shutil.copytree(MODELS / FAMILIES[name], folder)
    letters = [chr(c) for c in range(ord("A"), ord("A") + 26)] + [chr(c) for c in range(ord("a"), ord("a") + 25)]
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        "model": {"type": "BPE", "vocab": {c: i for i, c in enumerate(letters)}, "merges": []}}))
    return folder


def logprobs(bench, name, *args):
    rows = bench.good("logprob", f"input={LORA}/{name}/input.jsonl", "append_eos=false", MOST, *args).lines()
    return [row["logprobs"] for row in rows]


def beside_peft(bench, name, base, want):
    folder = LORA / name
    for adapter in ("all", "one"):
        rows = logprobs(bench, name, f"model={base}", f"lora.adapter={folder}/{adapter}")
        for ours, theirs in zip(rows, want[adapter]):
            off = max(map(abs, (x - y for x, y in zip(ours, theirs))), default=0)
            bench.check(len(ours) == len(theirs) and off <= 1e-5, name, adapter, "log-probs are off by", off)
    out = bench.folder / f"{name}-gradient.safetensors"
    bench.good("gradient", f"model={base}", f"adapter={folder}/all", f"input={folder}/input.jsonl",
               "append_eos=false", MOST, f"output={out}")
    near(bench, f"{name} gradient", tensors(out), tensors(folder / "gradient.safetensors"), 1e-4)
    bench.good("gradient", f"model={base}", f"input={folder}/input.jsonl", "append_eos=false", MOST, f"output={out}")
    ours, files = tensors(out), tensors(base / "model.safetensors")
    bench.check({k: len(v) for k, v in ours.items()} == {k: len(v) for k, v in files.items()}, name,
                "the gradient of all weights has other tensors than the files:", sorted(set(ours) ^ set(files)))


def steps(bench, name, base, want):
    folder, out = LORA / name, bench.folder / f"{name}-steps"
    args = ["sft", f"model={base}", f"lora.adapter={folder}/all", f"data.train={folder}/input.jsonl",
            "append_eos=false", "data.shuffle=false", "global_batch_size=4", "micro_batch_size=2", "epochs=2",
            "learning_rate=0.1", "epsilon=1", "max_grad_norm=0", "log_every=1", MOST]
    bench.good(*args, f"output_dir={out}")
    losses = [row["loss"] for row in common.metrics(out)]
    off = max(abs(x - y) for x, y in zip(losses, want["losses"]))
    bench.check(len(losses) == 2 and off <= 1e-5, name, "losses", losses, "peft has", want["losses"])
    start, theirs = tensors(folder / "all" / WEIGHTS), tensors(folder / "steps.safetensors")
    ours = tensors(out / "latest" / WEIGHTS)
    bench.check(sorted(ours) == sorted(theirs), name, "has other tensors:", sorted(ours))
    for key, old in start.items():
        moved = max(abs(x - y) for x, y in zip(theirs[key], old))
        far = max(abs(x - y) for x, y in zip(theirs[key], ours[key]))
        bench.check(far <= 1e-4 * moved, name, key, "moved by", moved, "and is off by", far)
    config = json.loads((out / "latest" / CONFIG).read_text())
    bench.check(config["fan_in_fan_out"] == (name == "gpt2"), name, config)
    bench.good("logprob", f"model={out}/latest", f"input={folder}/input.jsonl", MOST)
    if bench.mpirun:
        two = bench.folder / f"{name}-two"
        bench.good(*args, f"output_dir={two}", ranks=2)
        same(bench, out, two, f"{name} on 2 ranks")


def merge(bench, name, base):
    folder, out = LORA / name, bench.folder / f"{name}-merged"
    bench.good("merge", f"model={base}", f"adapter={folder}/all", f"output={out}")
    near(bench, f"{name} merge", tensors(out / "model.safetensors"), tensors(folder / "merged.safetensors"), 1e-7)
    apart = logprobs(bench, name, f"model={base}", f"adapter={folder}/all")
    merged = logprobs(bench, name, f"model={out}")
    off = max(abs(x - y) for a, b in zip(apart, merged) for x, y in zip(a, b))
    bench.check(off <= 1e-5, name, "the merged model's log-probs are off by", off)


def names(bench, name, base):
    """Checks that lora.targets takes the architecture's module names, and refuses other names."""
    module, *lacking = NAMES[name]
    out = bench.folder / f"{name}-named"
    train = ["sft", f"model={base}", f"data.train={LORA}/{name}/input.jsonl", "append_eos=false", "max_steps=1", MOST,
             "lora.r=2"]
    bench.good(*train, f"lora.targets={module}", f"output_dir={out}")
    config = json.loads((out / "latest" / CONFIG).read_text())
    bench.check(config["target_modules"] == [module], name, config["target_modules"])
    bench.check(all(module in key for key in tensors(out / "latest" / WEIGHTS)), name, "tensors")
    said = bench.good("inspect", out / "latest").out
    bench.check(f" {module}\n" in said, name, "inspect:", said)
    for target in lacking:
        r = bench.run(*train, f"lora.targets={target}", f"output_dir={out}-no")
        bench.check(r.code == 12 and "has no such module" in r.err and module in r.err, name, target, r)
    bench.check(not out.with_name(out.name + "-no").exists(), "a refused run left its folder")


def test(bench):
    for name in FAMILIES:
        base = with_tokenizer(bench, name)
        want = json.loads((LORA / name / "expected.json").read_text())
        beside_peft(bench, name, base, want)
        steps(bench, name, base, want)
        merge(bench, name, base)
        names(bench, name, base)


if __name__ == "__main__":
    common.main(test)
