#!/usr/bin/env python3
"""test_packed.py: checks that every command reads gzip-compressed data files, and that the message about files
of other formats names the command that converts them."""
import gzip
import json

import common


def pack(path):
    """Writes the file path.gz, which consists of two gzip members."""
    raw = path.read_bytes()
    out = path.with_name(path.name + ".gz")
    out.write_bytes(gzip.compress(raw[:len(raw) // 2]) + gzip.compress(raw[len(raw) // 2:]))
    return out


def lines(bench, base):
    """Checks the commands that read and write JSON lines, with files and with standard input."""
    prompts = bench.folder / "prompts.jsonl"
    prompts.write_text("".join((bench.world / "prompts.jsonl").read_text().splitlines(True)[:6]))
    answers = bench.folder / "answers.jsonl"
    answers.write_text("".join((bench.world / "sft.jsonl").read_text().splitlines(True)[:6]))
    rule = "reward.functions=[{name: regex, pattern: '[aeiou]', target: 20}]"
    for command, path, key, more in (("generate", prompts, "prompts", ["max_new_tokens=4"]), ("logprob", answers, "input", []),
                                     ("tokenize", answers, "input", []), ("score", answers, "input", [rule])):
        model = [] if command == "score" else [f"model={base}"]
        want = bench.good(command, *model, *more, f"{key}={path}").out
        packed = pack(path)
        bench.check(bench.good(command, *model, *more, f"{key}={packed}").out == want, command, "of", packed, "differs")
        r = bench.run(command, *model, *more, f"{key}=/dev/stdin", stdin=packed.read_bytes())
        bench.check(r.code == 0 and r.out == want, command, "of packed standard input differs", r)
    r = bench.good("tokenize", bench.world, packed)
    bench.check(r.out == want or len(r.lines()) == 6, "tokenize DIR FILE.gz", r)
    plain, both = bench.good("inspect", answers).out, bench.good("inspect", packed).out
    bench.check(plain.splitlines()[1:] == both.splitlines()[1:], "inspect", plain, both)


def training(bench):
    """Checks that a run on a compressed file gives the same weights as on the plain file, and that a damaged file is
    refused before anything is written."""
    out = [bench.folder / "plain", bench.folder / "packed", bench.folder / "cut"]
    packed = pack(bench.world / "sft.jsonl")
    bench.good(*bench.sft_args(out[0], steps=2))
    bench.good(*bench.sft_args(out[1], f"train={packed}", steps=2))
    bench.same(*(x / "latest/model.safetensors" for x in out[:2]), "weights from a packed file")
    packed.write_bytes(packed.read_bytes()[:-9])
    r = bench.run(*bench.sft_args(out[2], f"train={packed}", steps=2))
    bench.check(r.code == 6 and "sft.jsonl.gz: the gzip data ends too early" in r.err, "a cut file", r)
    bench.check(not out[2].exists(), "a cut file: the run left a folder")
    packed.unlink()


def tables(bench, base):
    """Checks that the message about CSV, TSV and JSON arrays names the format and a command that converts
    it."""
    for name, text, words in (
            ("a.csv", "id,prompt,completion\n1,a,b\n", ["commas between its columns", "pandas.read_csv('IN.csv').to_json"]),
            ("b.tsv", '"prompt"\t"completion"\na\tb\n', ["tabs between its columns", "sep='\\t'"]),
            ("c.json", '[\n{"prompt": "a", "completion": "b"}\n]\n', ["one JSON array", "jq -c '.[]'"]),
            ("d.json", '[{"prompt": "a", "completion": "b"}]\n', ["one JSON array", "jq -c '.[]'"])):
        path = bench.folder / name
        path.write_text(text)
        for r in (bench.run(*bench.sft_args(bench.folder / "no", f"train={path}", steps=1)),
                  bench.run("logprob", f"model={base}", f"input={path}"), bench.run("logprob", f"model={base}", f"input={pack(path)}")):
            bench.check(r.code == 6 and all(w in r.err for w in [name, *words]), name, "lacks", words, r)
    for text, word in (("a, b\n", ":1"), (json.dumps("prompt") + "\n", ":1")):
        path.write_text(text)
        r = bench.run("logprob", f"model={base}", f"input={path}")
        bench.check(r.code == 6 and word in r.err and "jq" not in r.err and "pandas" not in r.err, repr(text), r)


def test(bench):
    base = bench.base()
    lines(bench, base)
    training(bench)
    tables(bench, base)


common.main(test)
