#!/usr/bin/env python3
"""test_lora.py: compares LoRA with peft: log-probs, gradients, two AdamW steps, merged weights,
scores. The expected values come from tests/reference/lora_fixtures.py. Also checks runs with
adapters on several ranks and with interruptions, and which adapters are refused."""
import array
import json
import math
import shutil
import struct

import common

BASE = common.ROOT / "tests" / "fixtures" / "prefer" / "model"
LORA = common.ROOT / "tests" / "fixtures" / "lora"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def tensors(path):
    """Returns the float32 tensors of a safetensors file: {name: values}."""
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    head = json.loads(raw[8:8 + size])
    head.pop("__metadata__", None)
    cut = lambda v: raw[8 + size + v["data_offsets"][0]:8 + size + v["data_offsets"][1]]
    return {name: array.array("f", cut(v)) for name, v in head.items()}


def near(bench, what, ours, theirs, share):
    """Checks that two sets of tensors have the same names and that their values differ by at most
    `share` of the tensor's largest value."""
    if not bench.check(sorted(ours) == sorted(theirs), what, "has other tensors", sorted(ours)):
        return
    for name, want in theirs.items():
        off = max(abs(x - y) for x, y in zip(ours[name], want))
        bench.check(off <= share * max(map(abs, want)), what, name, "is off by", off)


def logprobs(bench, *args):
    return [row["logprobs"] for row in
            bench.good("logprob", f"input={LORA}/input.jsonl", "append_eos=false", *args).lines()]


def beside_peft(bench, want):
    for name in ("all", "rs"):
        rows = logprobs(bench, f"model={BASE}", f"lora.adapter={LORA}/{name}")
        for ours, theirs in zip(rows, want[name]):
            off = max(map(abs, (x - y for x, y in zip(ours, theirs))), default=0)
            bench.check(len(ours) == len(theirs) and off <= 1e-5, name, "log-probs are off by", off)
    rows = bench.good("score", f"model={BASE}", f"lora.adapter={LORA}/score", "append_eos=false",
                      f"input={LORA}/input.jsonl").lines()
    for row, score in zip(rows, want["score"]):
        bench.check(abs(row["score"] - score) <= 1e-5, "score", row, "peft has", score)
    out = bench.folder / "gradient.safetensors"
    bench.good("gradient", f"model={BASE}", f"adapter={LORA}/all", f"input={LORA}/input.jsonl",
               "append_eos=false", f"output={out}")
    near(bench, "gradient", tensors(out), tensors(LORA / "gradient.safetensors"), 1e-4)


def steps_beside_peft(bench, want):
    out = bench.folder / "steps"
    bench.good("sft", f"model={BASE}", f"lora.adapter={LORA}/all", f"data.train={LORA}/input.jsonl",
               f"output_dir={out}", "append_eos=false", "data.shuffle=false", "global_batch_size=4",
               "micro_batch_size=2", "epochs=2", "learning_rate=0.1", "epsilon=1", "max_grad_norm=0",
               "log_every=1")
    losses = [row["loss"] for row in common.metrics(out)]
    off = max(abs(x - y) for x, y in zip(losses, want["losses"]))
    bench.check(len(losses) == 2 and off <= 1e-5, "losses", losses, "peft has", want["losses"])
    start, theirs = tensors(LORA / "all" / WEIGHTS), tensors(LORA / "steps.safetensors")
    ours = tensors(out / "latest" / WEIGHTS)
    for name, old in start.items():
        moved = max(abs(x - y) for x, y in zip(theirs[name], old))
        far = max(abs(x - y) for x, y in zip(theirs[name], ours[name]))
        bench.check(far <= 1e-4 * moved, name, "moved by", moved, "and is off by", far)
    return out


def merge(bench, trained):
    out = bench.folder / "merged"
    bench.good("merge", f"model={BASE}", f"adapter={LORA}/all", f"output={out}")
    near(bench, "merge", tensors(out / "model.safetensors"), tensors(LORA / "merged.safetensors"), 1e-7)
    for name in ("config.json", "tokenizer.json", "generation_config.json"):
        bench.check((out / name).is_file(), "merge writes no", name)
    apart = logprobs(bench, f"model={BASE}", f"adapter={LORA}/all")
    whole = logprobs(bench, f"model={out}")
    off = max(abs(x - y) for a, b in zip(apart, whole) for x, y in zip(a, b))
    bench.check(off <= 1e-5, "the merged model's log-probs are off by", off)
    again = bench.run("merge", f"model={BASE}", f"adapter={LORA}/all", f"output={out}")
    bench.check(again.code != 0 and "not empty" in again.err, "merge overwrites", again)
    # Checks that model=ADAPTER has the same meaning as model=BASE lora.adapter=ADAPTER.
    folder = trained / "latest"
    a = bench.good("logprob", f"model={folder}", f"input={LORA}/input.jsonl").out
    b = bench.good("logprob", f"model={BASE}", f"adapter={folder}", f"input={LORA}/input.jsonl").out
    bench.check(a == b, "model=ADAPTER and adapter=ADAPTER differ")
    # also if the adapter's folder has a chat template of its own, which merge keeps
    own, asked = bench.folder / "own", bench.folder / "asked.jsonl"
    shutil.copytree(folder, own)
    (own / "chat_template.jinja").write_text("ask: {{ messages[0].content }} reply:")
    asked.write_text('{"prompt": [{"role": "user", "content": "hi."}]}\n')
    a, b = (bench.good("generate", *model, f"prompts={asked}", "max_new_tokens=3").out for model in
            ([f"model={own}"], [f"model={BASE}", f"adapter={own}"]))
    bench.check(a == b, "model=ADAPTER and adapter=ADAPTER differ in the chat template", a, b)
    c = bench.good("generate", f"model={BASE}", f"adapter={own}", f"tokenizer={BASE}", f"prompts={asked}",
                   "max_new_tokens=3").out
    bench.check(c != b, "tokenizer=BASE is not used")
    bench.good("merge", f"model={BASE}", f"adapter={own}", f"output={bench.folder}/merged-own")
    bench.same(bench.folder / "merged-own" / "chat_template.jinja", own / "chat_template.jinja", "merge")
    bench.check(json.loads((folder / CONFIG).read_text())["base_model_name_or_path"] == str(BASE),
                "the adapter names another base")
    # An adapter that was trained with a relative path of its base model can be used in another working
    # directory.
    away = bench.folder / "away"
    away.mkdir()
    (away / "base").symlink_to(BASE)
    p = bench.start(["sft", "model=base", "output_dir=adapter", "lora.r=2", f"data.train={LORA}/input.jsonl", "append_eos=false",
                     "global_batch_size=4", "micro_batch_size=2", "log_every=1"], cwd=away)
    err = p.communicate(timeout=common.LIMIT)[1].decode()
    bench.check(p.returncode == 0, "training with a relative path", err)
    stored = json.loads((away / "adapter" / "latest" / CONFIG).read_text())["base_model_name_or_path"]
    bench.check(stored == str(BASE), "the adapter names", stored)
    bench.good("logprob", f"model={away}/adapter/latest", f"input={LORA}/input.jsonl")
    # A base model with other weights than in the adapter's training is refused.
    other = bench.run("logprob", f"model={out}", f"adapter={folder}", f"input={LORA}/input.jsonl")
    bench.check(other.code != 0 and "was trained on base weights" in other.err, other)


def edited(bench, **fields):
    """Returns a copy of the adapter `all` with other fields in its configuration."""
    folder = bench.folder / "changed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(LORA / "all", folder)
    config = json.loads((folder / CONFIG).read_text())
    config.update(fields)
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


def harmless(bench, want):
    """Checks that fields without effect on what an adapter computes are accepted. peft writes
    eva_config into every adapter that begins with EVA, which does not change the base."""
    eva = {"rho": 1.0, "tau": 0.99, "use_label_mask": True, "label_mask_value": -100, "whiten": False,
           "adjust_scaling_factors": True}
    for fields in (dict(init_lora_weights="eva", eva_config=eva), dict(init_lora_weights="gaussian"),
                   dict(init_lora_weights="orthogonal"), dict(init_lora_weights=False)):
        rows = logprobs(bench, f"model={BASE}", f"lora.adapter={edited(bench, **fields)}")
        off = max(abs(x - y) for ours, theirs in zip(rows, want["all"]) for x, y in zip(ours, theirs))
        bench.check(off <= 1e-5, fields, "log-probs are off by", off)


def refusals(bench):
    def changed(words, **fields):
        folder = edited(bench, **fields)
        r = bench.run("logprob", f"model={BASE}", f"adapter={folder}", f"input={LORA}/input.jsonl")
        bench.check(r.code != 0 and words in r.err, fields, "lacks", words, r)

    changed("use_dora", use_dora=True)
    changed("bias is 'all'", bias="all")
    changed("modules_to_save has 'embed_tokens'", modules_to_save=["embed_tokens"])
    changed("rank_pattern is set", rank_pattern={"q_proj": 2})
    changed("alpha_pattern is set", alpha_pattern={"q_proj": 2})
    changed("fan_in_fan_out is set", fan_in_fan_out=True)
    changed("layers_to_transform is set", layers_to_transform=[0])
    for init in ("pissa", "lora_ga", "mica"):
        changed(f"init_lora_weights is '{init}'", init_lora_weights=init)
    changed("peft_type is 'LOHA'", peft_type="LOHA")
    changed("'lm_head' is no target", target_modules=["q_proj", "lm_head"])
    changed("expected (5, ", r=5)
    changed("does not belong to the adapter", target_modules=["q_proj"])
    changed("SEQ_CLS", task_type="SEQ_CLS")
    out, data = bench.folder / "refused", f"data.train={LORA}/input.jsonl"
    for words, *args in (
            ("lora.alpha: is set, but lora.r is not", "lora.alpha=3", f"model={BASE}"),
            ("names one layer", "lora.r=2", "lora.targets=model.layers.0.self_attn.q_proj", f"model={BASE}"),
            ("'q' is no target", "lora.r=2", "lora.targets=q", f"model={BASE}"),
            ("has rank 4", "lora.r=2", f"adapter={LORA}/all", f"model={BASE}"),
            ("lora.alpha: is 3", "lora.alpha=3", f"adapter={LORA}/all", f"model={BASE}"),
            ("is no folder here", f"model={LORA}/all"),
            ("has no adapter_config.json", f"model={BASE}", f"adapter={BASE}"),
            ("random with an adapter", "lora.r=2", "train.init=random", f"model={BASE}")):
        r = bench.run("sft", data, f"output_dir={out}", *args)
        bench.check(r.code != 0 and words in r.err, args, "lacks", words, r)
        bench.check(not (out / "metrics.jsonl").exists(), args, "writes")


def non_finite(bench):
    """Checks that no weights that are not finite are merged, and that the message names their file."""
    def spoilt(folder, name):
        copy = bench.folder / f"spoilt-{name}"
        shutil.copytree(folder, copy)
        raw = (copy / name).read_bytes()
        (copy / name).write_bytes(raw[:-4] + struct.pack("<f", math.nan))
        return copy

    adapter, base, out = spoilt(LORA / "all", WEIGHTS), spoilt(BASE, "model.safetensors"), bench.folder / "spoilt"
    for model, other, words in ((BASE, adapter, f"{adapter}/{WEIGHTS}: tensor"),
                                (base, LORA / "all", "a weight of the base model is not finite")):
        r = bench.run("merge", f"model={model}", f"adapter={other}", f"output={out}")
        bench.check(r.code != 0 and words in r.err and "nan" in r.err, model, other, "lacks", words, r)
        bench.check(not list(bench.folder.glob("spoilt*.tmp")) and not out.exists(), "a refused merge writes", r)
    r = bench.run("logprob", f"model={BASE}", f"adapter={adapter}", f"input={LORA}/input.jsonl")
    bench.check(r.code != 0 and f"{adapter}/{WEIGHTS}: tensor" in r.err, "logprob reads a NaN", r)


def same(bench, whole, out, what):
    for name in (WEIGHTS, CONFIG, "trainer_state.h5"):
        bench.same(whole / "latest" / name, out / "latest" / name, what)
    a, b = ([common.timeless(r) for r in common.metrics(x)] for x in (whole, out))
    bench.check(a == b, what, "metrics differ", a, b)


def runs(bench, base):
    """Checks each training command with an adapter: on one rank, on two ranks, and with
    interruptions."""
    sft = ["sft", f"model={base}", f"data.train={bench.world}/sft.jsonl", "max_steps=4",
           "global_batch_size=16", "log_every=1", "learning_rate=1e-2", "lora.r=4", "lora.alpha=8"]
    jobs = {
        "sft": lambda out: [*sft, f"output_dir={out}"],
        "reward": lambda out: bench.reward_args(out, base, "lora.r=4", "lora.targets=q_proj,down_proj"),
        "dpo": lambda out: bench.prefer_args(out, base, "method.name=dpo", "lora.r=4", "lora.rslora=true",
                                             "train.recompute=true", steps=4),
    }
    for name, job in jobs.items():
        whole, two, cut = (bench.folder / f"{name}-{how}" for how in ("1", "2", "cut"))
        bench.good(*job(whole))
        bench.check(not (whole / "latest" / "model.safetensors").exists(), name, "saves whole weights")
        if bench.mpirun:
            bench.good(*job(two), ranks=2)
            same(bench, whole, two, f"{name} on 2 ranks")
        *cuts, r = bench.in_sessions(*job(cut), ranks=(1, 2) if bench.mpirun else (1,))
        bench.check(r.code == 0 and cuts, name, "never interrupted:", r)
        same(bench, whole, cut, f"{name} interrupted")
    card = (bench.folder / "dpo-1" / "latest" / "README.md").read_text()
    bench.check("library_name: peft" in card and "LoRA adapter" in card, "model card:", card)
    first = common.metrics(bench.folder / "dpo-1")[0]
    bench.check(first["rewards/margins"] == 0, "a new adapter changes the model:", first)


def align(bench, base):
    """Checks align with an adapter. The log-probs of generation and training have the same bits
    (max_logprob_gap is 0). The used memory is the planned memory."""
    reward = bench.folder / "reward-1" / "latest"
    whole, two, later = (bench.folder / f"align-{how}" for how in ("1", "2", "previous"))

    def args(out, *more):
        return bench.align_args(out, base, f"reward.model={reward}", "lora.r=4", "lora.alpha=8",
                                "log_level=debug", "learning_rate=1e-2", *more, method="dpo",
                                iterations=2, prompts=8)

    r = bench.good(*args(whole))
    taken = [line for line in r.err.splitlines() if "bytes planned" in line]
    bench.check(len(taken) == 2 and "warning: memory" not in r.err, "planned is not taken:", taken)
    if bench.mpirun:
        bench.good(*args(two), ranks=2)
        same(bench, whole, two, "align on 2 ranks")
    # The adapter changes during the run, while the reference `init` is the base model without an
    # adapter.
    kl = [v for row in common.metrics(whole) for k, v in row.items() if k == "kl"]
    bench.check(kl and any(kl), "no KL to the start in", common.metrics(whole))
    bench.good(*args(later, "method.reference=previous", "epochs=2"))


def plan(bench, base):
    """Checks that the plan of a run with an adapter has gradients and moments only for the
    adapter's matrices."""
    def bytes_of(*more):
        out = bench.folder / "plan.json"
        bench.good("plan", "sft", f"model={base}", f"data.train={bench.world}/sft.jsonl",
                   f"output={out}", *more)
        rows = json.loads(out.read_text())["rows"]
        return sum(row["bytes"] for row in rows if row["owner"] in ("optimizer", "gradients"))

    full, lora = bytes_of(), bytes_of("lora.r=2")
    bench.check(0 < lora * 5 < full, "gradients or moments of frozen weights:", lora, full)


def test(bench):
    want = json.loads((LORA / "expected.json").read_text())
    beside_peft(bench, want)
    trained = steps_beside_peft(bench, want)
    merge(bench, trained)
    harmless(bench, want)
    refusals(bench)
    non_finite(bench)
    bench.make_world()
    base = bench.base()
    runs(bench, base)
    align(bench, base)
    plan(bench, base)


if __name__ == "__main__":
    common.main(test)
