#!/usr/bin/env python3
"""test_commands.py: checks the commands that read and write JSON lines, and that their output
does not depend on the numbers of ranks, threads or slots."""
import json
import re
import os
import shutil
import struct
from pathlib import Path

import common

COMMANDS = ("align", "sft", "reward", "generate", "logprob", "gradient", "score", "eval",
            "compare", "prefer", "tokenize", "inspect", "doctor")


def write_lines(path, records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def read_lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def both_ranks(bench, name, *args, suffix="jsonl", needs=1):
    """Runs the command with 1 rank, with 2 ranks and with 2 threads. All outputs must have the same bytes.
    Returns the path of the first output."""
    outs = []
    for ranks, threads in ((1, 1), (2, 1), (1, 2)):
        if ranks > 1 and not bench.mpirun:
            continue
        out = bench.folder / f"{name}-{ranks}-{threads}.{suffix}"
        result = bench.good(*args, f"output={out}", ranks=ranks, threads=threads)
        bench.check(result.out == "", name, "writes to standard output too:", result.out[:200])
        bench.check(not out.with_name(out.name + ".tmp").exists(), name, "leaves a .tmp file")
        outs.append(out)
    for out in outs[1:]:
        bench.same(outs[0], out, name)
    return outs[0]


# ---- tokenize -----------------------------------------------------------------------------------

def tokenize(bench):
    texts = ["ask: hi. what does the bread cost?\nreply:", "", "na\u00efve \U0001f600 \t  two"]
    records = [{"text": t} for t in texts]
    records.append({"messages": [{"role": "user", "content": "what color is the hat?"}]})
    path = write_lines(bench.folder / "texts.jsonl", records)
    out = both_ranks(bench, "tokenize", "tokenize", f"model={bench.world}", f"input={path}")
    got = read_lines(out)
    bench.check(len(got) == len(records), "tokenize: lines", len(got))
    for text, line in zip(texts, got):
        bench.check(set(line) == {"ids", "decoded"}, "tokenize: fields", sorted(line))
        bench.check(line["decoded"] == "<s>" + text, "tokenize:", line["decoded"], "from", text)
    bench.check("what color is the hat?" in got[3]["decoded"], "tokenize: messages", got[3])
    piped = bench.good("tokenize", f"model={bench.world}", "input=-", "output=-",
                       stdin=path.read_text())
    bench.check(piped.out == out.read_text(), "tokenize: - differs from a file:", piped.out)
    if bench.mpirun:
        piped = bench.good("tokenize", f"model={bench.world}", stdin=path.read_text(), ranks=2)
        bench.check(piped.out == out.read_text(), "tokenize: - on 2 ranks:", piped.out)
    bare = bench.good("tokenize", f"model={bench.world}", "special=false", stdin=path.read_text())
    bench.check([x["decoded"] for x in bare.lines()][:3] == texts, "tokenize: special=false")


# ---- generate and logprob -----------------------------------------------------------------------

def prompts_of(bench, n):
    records = read_lines(bench.world / "prompts.jsonl")[:n]
    return write_lines(bench.folder / "p.jsonl", [{"prompt": r["prompt"]} for r in records])


def generate(bench, model):
    n, group = 11, 3
    path = prompts_of(bench, n)
    args = ["generate", f"model={model}", f"prompts={path}", "max_new_tokens=16", "seed=3"]
    greedy = both_ranks(bench, "greedy", *args, "temperature=0")
    sampled = both_ranks(bench, "sampled", *args, "temperature=0.9", f"group_size={group}")
    for slots in (1, 7, 64):
        for args_more, like in (("temperature=0", greedy),
                                (f"temperature=0.9 group_size={group}", sampled)):
            one = bench.good(*args, *args_more.split(), f"slots={slots}")
            bench.check(one.out == like.read_text(), f"generate: slots={slots} {args_more} differs")
    long_keys = bench.good(*[a.replace("prompts=", "data.prompts=")
                             .replace("max_new_tokens", "generate.max_new_tokens") for a in args],
                           "generate.temperature=0")
    bench.check(long_keys.out == greedy.read_text(), "generate: shorthand and full keys differ")
    lines = read_lines(sampled)
    where = [(x["prompt_id"], x["sample"]) for x in lines]
    bench.check(where == [(p, s) for p in range(n) for s in range(group)], "generate: order",
                where)
    fields = {"prompt_id", "sample", "prompt_ids", "completion_ids", "logprobs", "text",
              "stop_reason", "prompt"}
    for x in lines + read_lines(greedy):
        bench.check(set(x) == fields, "generate: fields", sorted(x))
        bench.check(len(x["logprobs"]) == len(x["completion_ids"]) <= 16, "generate: lengths")
        bench.check(all(v <= 0 for v in x["logprobs"]), "generate: log-probabilities above 0")
    bench.check(len({json.dumps(x["completion_ids"]) for x in lines}) > n,
                "generate: the samples of a group are all alike")
    other = bench.good(*args, "temperature=0.9", f"group_size={group}", "seed=4")
    bench.check(other.out != sampled.read_text(), "generate: the seed changes nothing")
    by_ids = write_lines(bench.folder / "ids.jsonl",
                         [{"prompt_ids": x["prompt_ids"]} for x in read_lines(greedy)])
    again = bench.good("generate", f"model={model}", "prompts=-", "temperature=0",
                       "max_new_tokens=16", "seed=3", stdin=by_ids.read_text())
    without = re.sub(r',"prompt":".*?","prompt_ids"', ',"prompt_ids"', greedy.read_text())
    bench.check(again.out == without, "generate: prompt_ids differ from text")
    if bench.mpirun:
        again = bench.good("generate", f"model={model}", "prompts=-", "temperature=0",
                           "max_new_tokens=16", "seed=3", stdin=by_ids.read_text(), ranks=2)
        bench.check(again.out == without, "generate: - on 2 ranks differs")
    no_text = bench.folder / "no-tokenizer"
    shutil.copytree(model, no_text, symlinks=False)
    (no_text / "tokenizer.json").unlink()
    (no_text / "tokenizer_config.json").unlink()
    ids_only = bench.good("generate", f"model={no_text}", f"prompts={by_ids}", "temperature=0",
                          "max_new_tokens=16")
    bench.check([x["completion_ids"] for x in ids_only.lines()] ==
                [x["completion_ids"] for x in read_lines(greedy)],
                "generate: without a tokenizer the ids differ")
    return greedy, sampled


def printed(line, key):
    """Returns the text of the list `key` in a JSON line. Equal texts mean numbers with equal
    bits."""
    return line[line.index(f'"{key}":['):].split("]")[0]


def logprob(bench, model, generated):
    for path in generated:
        lines = path.read_text().splitlines()
        got = [json.loads(line) for line in lines]
        records = write_lines(bench.folder / "lp.jsonl", [
            {"ids": x["prompt_ids"] + x["completion_ids"], "prompt_tokens": len(x["prompt_ids"])}
            for x in got])
        out = both_ranks(bench, "logprob", "logprob", f"model={model}", f"input={records}")
        back = out.read_text().splitlines()
        bench.check(len(back) == len(lines), "logprob: lines", len(back))
        for a, b in zip(lines, back):
            bench.check(printed(a, "logprobs") == printed(b, "logprobs"),
                        "logprob: differs from generation:", a, b)
            b = json.loads(b)
            bench.check(set(b) == {"logprobs", "sum"}, "logprob: fields", sorted(b))
            bench.check(abs(b["sum"] - sum(b["logprobs"])) < 1e-4, "logprob: sum")
    records = write_lines(bench.folder / "pc.jsonl", [
        {"prompt": r["prompt"], "completion": r["completion"]}
        for r in read_lines(bench.world / "sft.jsonl")[:9]])
    out = both_ranks(bench, "logprob-text", "logprob", f"model={model}", f"input={records}")
    tokens = bench.good("tokenize", f"model={model}", "special=false", stdin="".join(
        json.dumps({"text": r["completion"]}) + "\n" for r in read_lines(records))).lines()
    bare = bench.good("logprob", f"model={model}", f"input={records}", "append_eos=false").lines()
    for x, y, t in zip(read_lines(out), bare, tokens):
        bench.check(len(x["logprobs"]) - 1 == len(y["logprobs"]) == len(t["ids"]),
                    "logprob: tokens of a text and the end token", len(x["logprobs"]), len(t["ids"]))
        bench.check(x["logprobs"][:-1] == y["logprobs"], "logprob: with and without the end token")
    out = both_ranks(bench, "embedding", "logprob", f"model={model}", f"input={records}",
                     "embedding=true")
    vectors = [x["embedding"] for x in read_lines(out)]
    bench.check(all(len(v) == 64 and any(v) for v in vectors), "logprob: embedding")
    bench.check(len({json.dumps(v) for v in vectors}) > 1, "logprob: one embedding for all")


# ---- score, gradient ----------------------------------------------------------------------------

def score(bench, reward):
    pairs = read_lines(bench.world / "pairs.jsonl")[:9]
    records = [{"prompt": p["prompt"], "completion": p[k]} for p in pairs
               for k in ("chosen", "rejected")]
    records.append({"text": pairs[0]["prompt"] + pairs[0]["chosen"]})
    path = write_lines(bench.folder / "score.jsonl", records)
    out = both_ranks(bench, "score", "score", f"model={reward}", f"input={path}")
    got = read_lines(out)
    bench.check(len(got) == len(records) and all(set(x) == {"score"} for x in got),
                "score: lines", got[:2])
    bench.check(len({x["score"] for x in got}) > len(records) // 2, "score: all alike")


def one_encoding(bench, reward):
    """Checks that a reward model reads the same ids in training, in `score model=` and in `score
    reward.model=`, for any text at the boundary of prompt and completion."""
    for k, (prompt, chosen, rejected) in enumerate((
            ("ask: what does the bread cost?\nreply:", " three coins.", " go away."),
            # the last space of the prompt becomes part of the next token
            ("ask: what does the ", "bread cost?", "breadth"),
            ("<s>ask: the bread", "</s>", "ed fish</s>"), # the texts contain both special tokens
            ("ask", "ing", ""))):
        pair = write_lines(bench.folder / "one.jsonl", [{"prompt": prompt, "chosen": chosen, "rejected": rejected}])
        out = bench.folder / f"one-{k}"
        bench.good("reward", f"model={reward}", f"output_dir={out}", f"data.train={pair}", "max_steps=1",
                   "learning_rate=1e-9", "log_every=1")
        row = json.loads((out / "metrics.jsonl").read_text().splitlines()[0])
        trained = [row["rewards/chosen"], row["rewards/rejected"]]
        records = write_lines(bench.folder / "one.jsonl", [{"prompt": prompt, "completion": c} for c in (chosen, rejected)] +
                              [{"text": prompt + c} for c in (chosen, rejected)])
        for by in ("model", "reward.model"):
            scores = [x["score"] for x in bench.good("score", f"{by}={reward}", f"input={records}").lines()]
            far = max(abs(a - b) for a, b in zip(trained + trained, scores))
            bench.check(far < 1e-5, "one encoding:", prompt, chosen, by, scores, "in training", trained)
    bench.check(abs(trained[0] - trained[1]) > 1e-3, "one encoding: the answers are alike", trained)


def reads_as_trained(bench, reward):
    """Checks that the folder of a reward model stores the settings of its training, that scoring uses
    them, and that a message names an option with another value."""
    pair = write_lines(bench.folder / "kept.jsonl", [{"prompt": "what?", "chosen": " three coins.", "rejected": " go away."}])
    records = write_lines(bench.folder / "kept-records.jsonl", [{"prompt": "what?", "completion": c}
                                                                for c in (" three coins.", " go away.")])
    out = bench.folder / "kept"
    bench.good("reward", f"model={reward}", f"output_dir={out}", f"data.train={pair}", "max_steps=1", "learning_rate=1e-9",
               "log_every=1", "data.append_eos=false", "prompt_template=ask: {prompt}\\nreply:", "max_tokens=24")
    model = out / "latest"
    note = json.loads((model / "plumb_encoding.json").read_text())
    bench.check(note["append_eos"] is False and note["max_tokens"] == 24 and note["prompt_template"].startswith("ask: {"),
                "plumb_encoding.json", note)
    row = json.loads((out / "metrics.jsonl").read_text().splitlines()[0])
    trained = [row["rewards/chosen"], row["rewards/rejected"]]
    scored = {}
    for by in ("model", "reward.model"):
        for more in ([], ["reward.append_eos=true"], ["prompt_template=Q {prompt}"]):
            r = bench.good("score", f"{by}={model}", f"input={records}", *more)
            scores = [x["score"] for x in r.lines()]
            far = max(abs(a - b) for a, b in zip(trained, scores))
            bench.check((far < 1e-5) == (not more), "as trained:", by, more, scores, "in training", trained)
            option = "reward.append_eos" if "append" in "".join(more) else "data.prompt_template"
            bench.check(not more or (option in r.err and "plumb_encoding.json" in r.err), "differs without a word:", r)
            scored[by, tuple(more)] = scores
    for (by, more), scores in scored.items():
        far = max(abs(a - b) for a, b in zip(scores, scored["model", more]))
        bench.check(far < 1e-6, "score model= and score reward.model= differ:", more, far)
    long = write_lines(bench.folder / "kept-long.jsonl", [{"prompt": "what?", "completion": " coins" * 30}])
    r = bench.good("score", f"reward.model={model}", f"input={long}", "reward.max_missing=1")
    bench.check(r.lines()[0]["score"] is None, "longer than in training:", r)
    r = bench.good("score", f"reward.model={model}", f"input={long}", "reward.context=200")
    bench.check(r.lines()[0]["score"] is not None and "at most 24" in r.err, "reward.context above training's:", r)
    # a folder with other special tokens than in training, and one without the settings
    other = bench.folder / "kept-other"
    shutil.copytree(model, other)
    (other / "plumb_encoding.json").write_text(json.dumps(dict(note, begin_ids=[3])))
    r = bench.run("score", f"reward.model={other}", f"input={records}")
    bench.check(r.code not in (0, None) and "[3]" in r.err and "plumb_encoding.json" in r.err, "begin_ids:", r)
    (other / "plumb_encoding.json").unlink()
    for by in ("model", "reward.model"):
        r = bench.good("score", f"{by}={other}", f"input={records}")
        bench.check(r.err.count("has no plumb_encoding.json") == 1, "a folder that does not say:", r)
    # A policy's checkpoint has no plumb_encoding.json. A reward model trained from it has one.
    bench.check(not (bench.base() / "plumb_encoding.json").exists(), "a policy's checkpoint has plumb_encoding.json")


def score_by_sources(bench, model, reward):
    records = [{"prompt": r["prompt"], "completion": r["completion"]}
               for r in read_lines(bench.world / "sft.jsonl")[:9]]
    path = write_lines(bench.folder / "sources.jsonl", records)
    words = "reward.functions=[{name: words, words: [the]}]"
    counted = read_lines(both_ranks(bench, "words", "score", words, f"input={path}"))
    bench.check(len({x["score"] for x in counted}) > 1, "score: words", counted)
    by_model = read_lines(both_ranks(bench, "by-model", "score", f"reward.model={reward}",
                                     f"input={path}"))
    # The batch size changes no score. A text that is longer than the context has no score.
    texts = write_lines(bench.folder / "texts.jsonl", [{"text": r["prompt"] + r["completion"]} for r in records])
    sizes = [len(x["ids"]) for x in bench.good("tokenize", f"model={reward}", f"input={texts}").lines()]
    for context in (max(sizes) + 4, sorted(sizes)[4]):
        r = bench.good("score", f"reward.model={reward}", f"input={path}", f"reward.context={context}", "reward.max_missing=1")
        read = [x["score"] for x in r.lines()]
        bench.check(all(a in (None, b["score"]) for a, b in zip(read, by_model)), "score: reward.context", context, read)
        bench.check((None in read) == ("reward.context" in r.err) == (context < max(sizes)), "score: what is too long:", r)
    command = bench.folder / "judge.sh"
    command.write_text("while read line; do case $line in *bread*) echo '{\"score\": null}';; "
                       "*) echo '{\"score\": 2.5}';; esac; done\n")
    judged = read_lines(both_ranks(bench, "judged", "score", f"reward.command=sh {command}",
                                   f"input={path}"))
    bench.check([x["score"] for x in judged] ==
                [None if "bread" in json.dumps(r) else 2.5 for r in records], "score: command",
                judged)
    both = read_lines(both_ranks(bench, "sum", "score", f"reward.model={reward}", words,
                                 f"input={path}"))
    bench.check(all(abs(a["score"] + b["score"] - c["score"]) < 1e-5
                    for a, b, c in zip(by_model, counted, both)), "score: sources do not add up")
    for args, word in (([f"model={model}", words], "model"),
                       (["reward.functions=[{name: length, target: 5}]"], "tokenizer")):
        r = bench.run("score", *args, f"input={path}")
        bench.check(r.code == 12 and word in r.err, "score: not refused:", r)


def safetensors(path):
    raw = Path(path).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    out = {}
    for name, x in header.items():
        begin, end = x["data_offsets"]
        out[name] = (x["dtype"], x["shape"],
                     struct.unpack(f"<{(end - begin) // 4}f", raw[8 + size:][begin:end]))
    return out


def gradient(bench, model):
    records = write_lines(bench.folder / "g.jsonl", [
        {"prompt": r["prompt"], "completion": r["completion"]}
        for r in read_lines(bench.world / "sft.jsonl")[:8]])
    out = both_ranks(bench, "gradient", "gradient", f"model={model}", f"input={records}",
                     "micro_batch_size=2", suffix="safetensors")
    grad, weights = safetensors(out), safetensors(Path(model) / "model.safetensors")
    bench.check({k: v[:2] for k, v in grad.items()} == {k: v[:2] for k, v in weights.items()},
                "gradient: names, types and shapes are not the model's")
    bench.check(all(any(v[2]) for v in grad.values()), "gradient: a tensor is all zero")
    # A step against the gradient with a small factor lowers the loss by about factor * squared
    # norm.
    norm2 = sum(x * x for v in grad.values() for x in v[2])
    step = 1e-3 / norm2 ** 0.5
    moved = bench.folder / "moved"
    shutil.copytree(model, moved, symlinks=False)
    raw = bytearray((moved / "model.safetensors").read_bytes())
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    for name, (_, _, values) in weights.items():
        begin, end = (8 + size + x for x in header[name]["data_offsets"])
        raw[begin:end] = struct.pack(f"<{len(values)}f", *(
            w - step * g for w, g in zip(values, grad[name][2])))
    (moved / "model.safetensors").write_bytes(raw)
    loss = []
    for folder in (model, moved):
        lines = bench.good("logprob", f"model={folder}", f"input={records}").lines()
        loss.append(-sum(x["sum"] for x in lines) / sum(len(x["logprobs"]) for x in lines))
    ratio = (loss[0] - loss[1]) / (step * norm2)
    bench.check(0.9 < ratio < 1.1, "gradient: the loss falls by", ratio, "of what it says")


# ---- inspect, doctor, help ----------------------------------------------------------------------

def words(bench, model, reward):
    run = bench.folder / "run"
    bench.good(*bench.align_args(run, model, f"reward.model={reward}", iterations=1))
    master = run / "rollouts" / "iteration-0001.h5"
    text = bench.good("inspect", f"input={master}", f"model={model}").out
    for word in ("iteration 1", "64 rollouts", "plain", "principled", "ask:"):
        bench.check(word in text, "inspect of rollouts lacks", word, "in:", text)
    bench.check("64 rollouts" in bench.good("inspect", f"input={master}").out, "inspect alone")
    text = bench.good("inspect", f"input={run / 'latest'}").out
    for word in ("step", "iteration", "parameters"):
        bench.check(word in text, "inspect of a checkpoint lacks", word, "in:", text)
    for ranks in (1, 2) if bench.mpirun else (1,):
        text = bench.good("doctor", ranks=ranks).out
        for word in ("plumb ", "device", "memory", *(f"rank {r}" for r in range(ranks))):
            bench.check(word in text, f"doctor on {ranks} ranks lacks", word, "in:", text)
    top = bench.good("help", threads=None)
    for name in COMMANDS:
        bench.check(name in top.out, "help lacks", name)
        for args in (("help", name), (name, "--help")):
            text = bench.good(*args, threads=None).out
            bench.check(len(text.splitlines()) > 3 and name in text, "help of", name, "is", text)
    usage = bench.good("help", "compare", threads=None).out
    bench.check("usage: plumb compare [CONFIG.yaml] DIR..." in usage, "help of compare:", usage)
    bench.check("plumb" in bench.good("--version", threads=None).out, "--version")


def eval_command(bench, model, reward):
    out = bench.folder / "eval"
    result = bench.good("eval", f"data.eval={bench.world}/eval.jsonl", "data.limit=16",
                        f"reward.model={reward}", f"eval.models=one={model},two={model}",
                        f"output_dir={out}", "max_new_tokens=8")
    for word in ("one", "two", "reward"):
        bench.check(word in result.out, "eval: the table lacks", word, "in:", result.out)
    bench.check((out / "eval.json").is_file(), "eval: no eval.json")
    if bench.mpirun:
        two = bench.good("eval", f"data.eval={bench.world}/eval.jsonl", "data.limit=16",
                         f"reward.model={reward}", f"eval.models=one={model},two={model}",
                         "max_new_tokens=8", ranks=2)
        bench.check(two.out.split() == result.out.split(), "eval: differs on 2 ranks:", two.out,
                    result.out)


# ---- a pretrained model -------------------------------------------------------------------------

def pretrained(bench):
    model = Path(os.environ.get("PLUMB_SHARED_DATA", "")) / "models" / "stories260K-hf"
    if not (model / "expected_greedy.json").is_file():
        print("not run: stories260K (PLUMB_SHARED_DATA has no models/stories260K-hf)")
        return
    expected = json.loads((model / "expected_greedy.json").read_text())
    want = expected["ids"][1:]
    prompt = json.dumps({"prompt_ids": expected["ids"][:1]})
    got = bench.good("generate", f"model={model}", "prompts=-", "temperature=0",
                     f"max_new_tokens={len(want)}", stdin=prompt + "\n").lines()[0]
    bench.check(got["completion_ids"] == want, "stories260K: other tokens than expected")
    gap = max(abs(a - b) for a, b in zip(got["logprobs"], expected["logprob"]))
    bench.check(len(got["logprobs"]) == len(want) and gap < 1e-5, "stories260K: log-probs are off",
                gap)


def test(bench):
    model = bench.base()
    reward = bench.folder / "reward"
    bench.good(*bench.reward_args(reward, model))
    reward /= "latest"
    tokenize(bench)
    logprob(bench, model, generate(bench, model))
    score(bench, reward)
    one_encoding(bench, reward)
    reads_as_trained(bench, reward)
    score_by_sources(bench, model, reward)
    gradient(bench, model)
    words(bench, model, reward)
    eval_command(bench, model, reward)
    pretrained(bench)


common.main(test)
