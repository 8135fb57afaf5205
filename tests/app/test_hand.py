#!/usr/bin/env python3
"""test_hand.py: checks commands that a user types with only a path or a folder. If their meaning
is obvious, the command works; otherwise its message says what to type."""
import gzip
import json
import os
import shutil
from pathlib import Path

import common

NOTHING = 12 # exit code for an error in the configuration


def says(bench, code, words, *args, stdin=None):
    """Runs a command. Checks its exit code, and that its output or messages contain these texts."""
    r = bench.run(*args, threads=None, stdin=stdin)
    missing = [w for w in words if w not in r.out + r.err]
    bench.check(r.code == code and not missing, args, "lacks", missing, "in", r, r.out[-2000:])
    return r


# ---- inspect ------------------------------------------------------------------------------------

def inspect(bench, model, run):
    """Checks that `plumb inspect PATH` recognises every kind of file or folder that plumb reads or
    writes."""
    world = bench.world
    config = bench.folder / "my.yaml"
    config.write_text(f"model: {model}\ndata: {{prompts: {world}/prompts.jsonl, eval: nowhere.jsonl}}\n")
    stages = bench.folder / "stages.yaml"
    stages.write_text(f"output_dir: {bench.folder}/staged\nmodel: {model}\nstages:\n"
                      f"  - {{name: one, command: sft, data: {{train: {world}/sft.jsonl}}}}\n")
    copy = bench.folder / "sft-elsewhere.jsonl"
    shutil.copy(world / "sft.jsonl", copy)
    for path, words in (
            (model, ["llama, LlamaForCausalLM", "float32", "parameters", "end tokens  1 </s>", "2 layers",
                     "context     256 tokens", "pad 2 <pad>", "no chat template", "all match hashes.json"]),
            (world, ["no model.safetensors", "LlamaForCausalLM"]),
            (model / "model.safetensors", ["a safetensors file", "float32", "model.embed_tokens.weight (734, 64)"]),
            (model / "config.json", ["2 layers", "vocabulary 734"]),
            (model / "generation_config.json", ["eos_token_id 1"]),
            (model / "trainer_state.h5", ["trainer state", "step 10 of 10"]),
            (model / "hashes.json", ["files of a checkpoint"]),
            (world / "tokenizer.json", ["a tokenizer", "734 ids", "eos 1 </s>"]),
            (world / "tokenizer_config.json", ["a tokenizer"]),
            (world / "sft.jsonl", ["320 of prompt and completion", "read by     sft", "completion: string in 320",
                                   "tokens", "by the tokenizer"]),
            (copy, ["320 of prompt and completion", "tokenizer=DIR"]),
            (world / "pairs.jsonl", ["192 of prompt, chosen and rejected", "reward, prefer"]),
            (world / "prompts.jsonl", ["128 of prompt", "align, generate, eval"]),
            (world / "principles" / "kind_and_helpful.txt", ["plain text, 1 line"]),
            (run, ["a run of plumb align", "session 1", "ok after", "checkpoint-2", "step 2"]),
            (run / "run.json", ["a run of plumb align"]),
            (run / "config.effective.yaml", ["a configuration", "train.iterations: 1", "data.prompts: "]),
            (run / "metrics.jsonl", ["metrics of a run, 1 line,", "psle/tau"]),
            (run / "rollouts", ["iteration-0001.h5", "64 rollouts"]),
            (run / "rollouts" / "iteration-0001.h5", ["iteration 1", "64 rollouts", "ask:"]),
            (run / "rollouts" / "iteration-0001.rank-0.h5", ["iteration 1", "64 rollouts"]),
            (run / "replay-1-0.h5", ["micro-batch 0 of step 1 of align psle", "plumb replay"]),
            (config, ["a configuration", f"model: {model}", "nowhere.jsonl"]),
            (stages, ["1 stage:", "plumb run"])):
        says(bench, 0, [f"{path}: ", *words], "inspect", path)
    tokens = says(bench, 0, ["by the tokenizer"], "inspect", copy, f"tokenizer={world}").out
    bench.check(tokens.split("tokens", 1)[1].split("by", 1)[1].split("\n", 1)[1] ==
                says(bench, 0, [], "inspect", world / "sft.jsonl").out.split("tokens", 1)[1].split("by", 1)[1].split("\n", 1)[1],
                "inspect: token counts with tokenizer=DIR")


def inspect_others(bench, model):
    """Checks inspect on weights in several files, on other dtypes and kinds of model, and on chat templates. Also
    checks what inspect refuses."""
    parts = bench.folder / "parts"
    bench.good(*bench.sft_args(parts, "checkpoint.shard_bytes=100000", steps=1))
    index = parts / "latest" / "model.safetensors.index.json"
    says(bench, 0, ["in several safetensors files", "20 tensors"], "inspect", index)
    says(bench, 0, ["in 20 tensors"], "inspect", parts / "latest")
    lost = bench.folder / "lost"
    lost.mkdir()
    shutil.copy(index, lost)
    says(bench, 0, ["0 of them there; the first that is missing is model-00001"], "inspect", lost / index.name)
    chat = bench.folder / "chat"
    shutil.copytree(bench.world, chat)
    config = json.loads((chat / "tokenizer_config.json").read_text())
    config["chat_template"] = "{% for m in messages %}{{ m.content }}{% endfor %}"
    (chat / "tokenizer_config.json").write_text(json.dumps(config))
    (chat / "generation_config.json").write_text('{"eos_token_id": [1, 2], "temperature": 0.6, "top_p": 0.9}')
    says(bench, 0, ["chat template in tokenizer_config.json", "1 </s>, 2 <pad>", "temperature 0.6", "top_p 0.9"],
         "inspect", chat)
    shutil.copytree(model, bench.folder / "lr=1e-3" / "latest", symlinks=False)
    says(bench, 0, ["LlamaForCausalLM"], "inspect", bench.folder / "lr=1e-3" / "latest")
    mixed = bench.folder / "mixed.jsonl"
    mixed.write_text('{"prompt": "a"}\n\n{"messages": []}\n{"other": 1}\n')
    says(bench, 0, ["1 of prompt", "1 of messages", "1 of no shape"], "inspect", mixed)
    for name, raw, code, words in (
            ("adapter/adapter_config.json", b"{}", 6, ["adapter_config.json", "is missing"]),
            ("array.json", b'[{"prompt": "a"}]', 7, ["one JSON array", "jq"]),
            ("other.json", b'{"x": 1, "y": 2}', 7, ["JSON object with the members x y"]),
            ("broken.jsonl", b'{"prompt": "a"}\n{"prompt": \n', 6, ["broken.jsonl:2"]),
            ("packed.jsonl.gz", b"\x1f\x8b\x08\0\0\0\0\0", 6, ["gzip data ends too early"]),
            ("words.gz", gzip.compress(b"a few words\n"), 7, ["holds a text file", "gunzip"]),
            ("model.gguf", b"GGUF\3\0\0\0", 7, ["GGUF"]),
            ("empty", b"", 7, ["an empty file"]),
            ("cut.safetensors", (model / "model.safetensors").read_bytes()[:20000], 6, ["cut"]),
            ("bad.yaml", b"train: {lr_: 1}\n", NOTHING, ["bad.yaml:1", "unknown key"]),
            ("latin.txt", b"caf\xe9\n", 7, ["not UTF-8"])):
        path = bench.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(raw)
        says(bench, code, words, "inspect", path if path.name != "adapter_config.json" else path.parent)
    says(bench, 7, ["is a folder with", "expected a model"], "inspect", bench.world / "principles")
    says(bench, 0, ["a folder of runs", "base"], "inspect", bench.folder)
    says(bench, 5, ["nowhere"], "inspect", "nowhere")
    says(bench, NOTHING, ["plumb inspect PATH"], "inspect")
    says(bench, NOTHING, ["second file"], "inspect", model, model)


# ---- tokenize -----------------------------------------------------------------------------------

def tokenize(bench, model):
    """Checks that tokenize needs only a tokenizer, and that it can decode ids."""
    world = bench.world
    texts = bench.folder / "texts.jsonl"
    texts.write_text('{"text": "ask: hi.\\nreply:"}\n{"prompt": "ask: hi."}\n'
                     '{"prompt": "ask: hi.", "completion": " yes."}\n')
    want = says(bench, 0, [], "tokenize", world, texts).out
    lines = [json.loads(x) for x in want.splitlines()]
    bench.check([x["decoded"] for x in lines] == ["<s>ask: hi.\nreply:", "<s>ask: hi.", "<s>ask: hi. yes."],
                "tokenize:", want)
    bench.check(lines[2]["prompt_tokens"] == len(lines[1]["ids"]), "tokenize: prompt_tokens", want)
    for args in ([texts, world], [world / "tokenizer.json", texts], [f"tokenizer={world}", f"input={texts}"],
                 [f"model={model}", texts], [f"tokenizer={world}", texts]):
        bench.check(says(bench, 0, [], "tokenize", *args).out == want, "tokenize", args, "differs")
    bench.check(says(bench, 0, [], "tokenize", world, stdin=texts.read_text()).out == want, "tokenize of a pipe")
    ids = "".join(json.dumps({"ids": x["ids"]}) + "\n" for x in lines)
    back = [json.loads(x)["decoded"] for x in says(bench, 0, [], "tokenize", world, stdin=ids).out.splitlines()]
    bench.check(back == [x["decoded"] for x in lines], "tokenize: ids to text", back)
    says(bench, 6, ["not a token id"], "tokenize", world, stdin='{"ids": [734]}\n')
    says(bench, NOTHING, ["tokenizer: is not set", "plumb tokenize FOLDER"], "tokenize", texts)
    says(bench, NOTHING, ["tokenizer: is not set"], "tokenize")
    says(bench, 5, ["name the folder"], "tokenize", f"tokenizer={world}/tokenizer.json", texts)


# ---- plan ---------------------------------------------------------------------------------------

def plan(bench):
    """Checks that plan assumes missing inputs and prints its assumptions, and that the planned sizes do not depend on
    which input is missing."""
    world, out = bench.world, bench.folder / "plan.json"
    bare = bench.folder / "bare"
    bare.mkdir()
    shutil.copy(world / "config.json", bare)
    align = ("align", f"model={world}", "group_size=2", "max_new_tokens=16")
    sft = ("sft", f"model={world}")
    whole = {}
    for args, words in (
            (align, ["data.prompts: is not set"]),
            ((*align, "prompts=later.jsonl"), ["data.prompts: later.jsonl is not there"]),
            ((*align, f"prompts={world}/prompts.jsonl", "tokenizer=later"), ["tokenizer: later/tokenizer.json"]),
            ((*align, f"prompts={world}/prompts.jsonl", "principles=later.txt"), ["method.principles: later.txt"]),
            (("align", f"model={bare}", *align[2:], f"prompts={world}/prompts.jsonl"), ["tokenizer: "]),
            (sft, ["data.train: is not set"]), ((*sft, "data.train=later.jsonl"), ["data.train: later.jsonl"]),
            (("sft", f"model={bare}", f"data.train={world}/sft.jsonl"), ["tokenizer: "])):
        says(bench, 0, ["assumed: ", *words, "records of", "fits"], "plan", *args, f"output={out}")
        got = json.loads(out.read_text())
        bench.check(any(words[0] in line for line in got["assumed"]), "plan: assumed", got["assumed"], words)
        bench.check(whole.setdefault(args[0], got["bytes"]) == got["bytes"], "plan", args, "counts otherwise", got)
    says(bench, 0, ["data.eval: later.jsonl is not there"], "plan", *sft, f"data.train={world}/sft.jsonl", "data.eval=later.jsonl")
    r = says(bench, 0, ["fits"], "plan", *sft, f"data.train={world}/sft.jsonl", f"output={out}")
    bench.check("assumed" not in r.out and json.loads(out.read_text())["assumed"] == [], "plan: nothing to assume", r.out)


# ---- arguments of the wrong kind ------------------------------------------------------------------

def misplaced(bench, model, run):
    world = bench.world
    for args, words in (
            (["align", model], [f"model={model}"]), (["generate", model], [f"model={model}"]),
            (["eval", model], ["eval.models=NAME="]), (["align", run], ["config.effective.yaml", "latest"]),
            (["generate", world / "prompts.jsonl"], ["data.prompts="]), (["sft", world / "sft.jsonl"], ["data.train="]),
            (["eval", world / "eval.jsonl"], ["data.eval="]), (["score", world / "sft.jsonl"], ["input="]),
            (["sft", model / "model.safetensors"], ["model=FOLDER"]),
            (["align", run / "rollouts" / "iteration-0001.h5"], ["plumb inspect"]),
            (["align", bench.folder], ["is a folder"]), (["align", "nothing.yaml"], ["there is no file nothing.yaml"]),
            (["generate", "model", model], [f"model={model}"]), (["align", "--model", model], [f"model={model}"]),
            (["align", f"--model={model}"], [f"model={model}"]), (["align", "--config", "my.yaml"], ["write my.yaml"]),
            (["align", "my.yaml", "--seed=2"], ["write seed=2"]), (["doctor", "x"], ["there is no file x"]),
            (["plan"], ["plumb plan align"]), (["plan", "my.yaml"], ["plumb plan align my.yaml"]),
            (["plan", "generate"], ["align, sft, reward or prefer"]), (["replay"], ["plumb replay"]),
            (["replay", run], [f"{run}/replay-1-0.h5"]), (["replay", world], ["none in it"]),
            (["compare"], ["plumb compare DIR"]), ([model], ["the command comes first", "plumb inspect"]),
            (["help", "alig"], ["did you mean 'align'"]), (["frobnicate"], ["plumb help"])):
        says(bench, NOTHING, words, *args)
    says(bench, 6, ["holds rollouts"], "replay", run / "rollouts" / "iteration-0001.h5")
    says(bench, 6, ["safetensors", "HDF5"], "replay", model / "model.safetensors")
    says(bench, 0, ["first"], "compare", f"first={run}")
    moved = bench.folder / "lr=2" / "run"
    shutil.copytree(run, moved, symlinks=True)
    says(bench, 0, ["psle"], "compare", moved)
    config = bench.folder / "sft.yaml"
    config.write_text(f"model: {world}\ndata: {{train: {world}/sft.jsonl}}\n")
    says(bench, 0, ["sft on"], "plan", "sft", "train.init=random", config)
    says(bench, NOTHING, ["second file"], "plan", "sft", config, config)
    for args, words in ((["--version"], ["plumb "]), (["-V"], ["plumb "]), (["-h"], ["commands", "values"]),
                        ([], ["commands"]), (["align", "seed=1", "--help"], ["usage: plumb align"]),
                        (["sft", "-h"], ["usage: plumb sft"]), (["help", "plan", "sft"], ["plumb plan -", "plumb sft -"])):
        says(bench, 0, words, *args)


def values(bench, model):
    """Checks that \\n in a value on the command line is a line break, and that plumb warns if quotes keep it from
    being one."""
    prompts = json.dumps({"prompt": "ask: hi."}) + "\n"
    args = ("generate", f"model={model}", "prompts=-", "max_new_tokens=1")
    r = says(bench, 0, ["generate.stop", "backslash"], *args, "stop='\\n'", stdin=prompts)
    bench.check(r.err.count("backslash") == 1, "the warning comes once:", r.err)
    for stop in ("\\n", '"\\n"', '["\\n", END]', '"\\n",END', "\n", "END", "null"):
        r = says(bench, 0, [], *args, f"stop={stop}", stdin=prompts)
        bench.check("backslash" not in r.err, stop, "is warned about", r.err)


def generation_config(bench, model):
    """Checks that generate names the settings of generation_config.json that it does not follow."""
    asks = bench.folder / "asks"
    shutil.copytree(model, asks, symlinks=False)
    args = ("generate", f"model={asks}", "prompts=-", "max_new_tokens=1")
    prompts = json.dumps({"prompt": "ask: hi."}) + "\n"
    for config, more, named, silent in (
            ({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.1}, [],
             ["add temperature=0.6 top_p=0.9 repetition_penalty=1.1"], ["nothing like"]),
            ({"do_sample": True, "repetition_penalty": 1.1}, ["repetition_penalty=1"], [], ["repetition_penalty"]),
            ({"stop_strings": ["END"], "num_return_sequences": 3, "max_length": 64}, [],
             ["add stop=[\"END\"] group_size=3 max_tokens=64"], []),
            ({"typical_p": 0.9, "no_repeat_ngram_size": 3, "bad_words_ids": [[5]], "guidance_scale": 2, "made_up": "x"}, [],
             ["nothing like typical_p=0.9 no_repeat_ngram_size=3 bad_words_ids=[[5]] guidance_scale=2 made_up=\"x\""], []),
            ({"use_cache": True, "transformers_version": "5.1", "suppress_tokens": [], "typical_p": 1.0, "num_beams": 1,
              "top_k": None, "watermarking_config": None, "token_healing": False}, [], [], ["generation_config"]),
            ({"do_sample": True, "temperature": 0.6, "top_p": 0.9}, ["temperature=1"], ["add top_p=0.9"], ["temperature"]),
            ({"do_sample": False, "temperature": 0.6}, [], ["temperature=0 (do_sample is false)"], ["0.6"]),
            ({"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0}, [], [], ["generation_config"]),
            ({}, [], [], ["generation_config"])):
        (asks / "generation_config.json").write_text(json.dumps({"eos_token_id": 1, "bos_token_id": 0, **config}))
        r = says(bench, 0, named, *args, *more, stdin=prompts)
        bench.check(not any(w in r.err for w in silent), config, "says", silent, r.err)


def test(bench):
    os.environ.pop("COLUMNS", None)
    model = bench.base().resolve()
    reward = bench.folder / "reward"
    bench.good(*bench.reward_args(reward, model))
    run = bench.folder / "run"
    bench.good(*bench.align_args(run, model, f"reward.model={reward}/latest", "train.replay=1:0", iterations=1))
    inspect(bench, Path(model), run)
    inspect_others(bench, Path(model))
    tokenize(bench, model)
    plan(bench)
    misplaced(bench, model, run)
    values(bench, model)
    generation_config(bench, model)


common.main(test)
