#!/usr/bin/env python3
"""test_bad_input.py: checks that plumb ends within seconds for wrong input, without a crash and with a message
that names the wrong input, and that it changes no existing file."""
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time

import common

LIMIT = 120  # seconds that a command may take


class Bad:
    """Holds a valid model and a valid prompt file. Each method makes an invalid variant of one
    of them."""

    def __init__(self, bench):
        self.bench, self.folder = bench, bench.folder
        self.model = bench.base().resolve()
        self.prompts = self.write("good.jsonl", '{"prompt": "ask: hi."}\n' * 4)
        self.count = 0

    def write(self, name, text):
        path = self.folder / name
        if isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_text(text)
        return path

    def copy(self, **files):
        """Copies the model folder with changed files. files: {name: new contents, or None to remove the
        file}; the last _ of a name stands for the dot."""
        self.count += 1
        out = self.folder / f"model-{self.count}"
        shutil.copytree(self.model, out)
        for name, content in files.items():
            path = out / ".".join(name.rsplit("_", 1))
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return out

    def expect(self, name, args, *words, out=None, keep=None, code=None, **kw):
        """Checks that the command fails with these texts in its message, that `out` does not exist, and that the
        folder `keep` does not change."""
        before = common.tree(keep) if keep else None
        r = self.bench.run(*args, timeout=LIMIT, **kw)
        check = self.bench.check
        check(r.code is not None, name, "hangs:", r)
        if r.code is None:
            return r
        check(0 < r.code < 100 and (code is None or r.code == code), name, "ends badly:", r)
        for sign in ("Traceback", "egmentation", "Sanitizer", "runtime error", "ssertion"):
            check(sign not in r.err, name, "crashes:", r)
        check(r.err.strip() != "", name, "says nothing:", r)
        for word in words:
            check(word.lower() in r.err.lower(), name, f"does not say '{word}':", r)
        if out:
            left = [p for p in out.parent.glob(out.name + "*")]
            check(not left, name, "leaves", left, r)
            for path in left:
                shutil.rmtree(path, ignore_errors=True)
        if keep:
            check(common.tree(keep) == before, name, "changed", keep, r)
        return r


def safetensors(model, change):
    """Copies the model folder, with its weights changed by change(tensors). tensors: {name: [shape,
    bytes]}."""
    raw = (model / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    tensors = {}
    for name, x in json.loads(raw[8:8 + size]).items():
        if name != "__metadata__":
            begin, end = x["data_offsets"]
            tensors[name] = [x["shape"], raw[8 + size:][begin:end]]
    change(tensors)
    header, at = {}, 0
    for name, (shape, content) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(content)]}
        at += len(content)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(c for _, c in tensors.values())


# ---- model folders ------------------------------------------------------------------------------

def models(b):
    config = json.loads((b.model / "config.json").read_text())
    weights = (b.model / "model.safetensors").read_bytes()
    norm = "model.norm.weight"

    def reshape(tensors):
        tensors[norm][0] = [8, 8]

    def with_config(**change):
        return b.copy(config_json=json.dumps({**config, **change}))

    cases = (
        ("truncated weights", b.copy(model_safetensors=weights[:-1000]), "model.safetensors"),
        ("weights of 5 bytes", b.copy(model_safetensors=weights[:5]), "model.safetensors"),
        ("no weights", b.copy(model_safetensors=None), "safetensors"),
        ("a tensor missing", b.copy(model_safetensors=safetensors(
            b.model, lambda t: t.pop(norm))), norm),
        ("a tensor of another model", b.copy(model_safetensors=safetensors(
            b.model, lambda t: t.update(stranger=t[norm]))), "stranger"),
        ("a tensor's shape", b.copy(model_safetensors=safetensors(b.model, reshape)), norm),
        ("a config for another size", with_config(hidden_size=32), "32", "model."),
        ("no config.json", b.copy(config_json=None), "config.json"),
        ("config.json cut off", b.copy(config_json=json.dumps(config, indent=1)[:100]),
         "config.json:"),
        ("a word for a number", with_config(hidden_size="big"), "config.json", "hidden_size"),
        ("no heads", with_config(num_attention_heads=0), "config.json", "num_attention_heads"),
        ("an unknown family", with_config(model_type="mamba", architectures=["MambaForCausalLM"]),
         "config.json", "mamba"),
        ("a negative size", with_config(num_hidden_layers=-2), "config.json",
         "num_hidden_layers"),
        ("an absurd size", with_config(vocab_size=2 ** 40), "config.json", "vocab_size"),
        ("a broken tokenizer", b.copy(tokenizer_json='{"version": "1.0",'), "tokenizer.json:"),
        ("an unknown tokenizer", b.copy(tokenizer_json=json.dumps(
            {"model": {"type": "Unigram", "vocab": []}})), "tokenizer.json", "Unigram"),
        ("no tokenizer for text", b.copy(tokenizer_json=None), "tokenizer.json"),
        ("no such folder", b.folder / "nowhere", "folder", "nowhere"),
        ("a file for a folder", b.prompts, "good.jsonl"),
    )
    out = b.folder / "answers.jsonl"
    for name, model, *words in cases:
        b.expect(name, ["generate", f"model={model}", f"prompts={b.prompts}", "max_new_tokens=2",
                        f"output={out}"], *words, out=out)
        run = b.folder / "run"
        b.expect(f"{name}, align", b.bench.align_args(run, model, "reward.command=cat"), *words,
                 out=run)
    small = {**config, "vocab_size": 300}
    for command in ("sft", "reward"):
        model = b.copy(config_json=json.dumps(small), model_safetensors=None)
        run = b.folder / "run"
        args = b.bench.sft_args(run) if command == "sft" else \
            b.bench.reward_args(run, with_config(vocab_size=300))
        args = [f"model={model}" if a.startswith("model=") and command == "sft" else a
                for a in args]
        words = ("tokenizer", "vocabulary") if command == "sft" else ("300",)
        b.expect(f"{command} with a tokenizer too large", args, *words, out=run)


# ---- records ------------------------------------------------------------------------------------

def records(b):
    good = '{"prompt": "ask: hi."}\n'
    words = " the bread" * 300
    cases = (
        ("an empty file", "", "bad.jsonl"),
        ("blank lines alone", "\n\n", "bad.jsonl"),
        ("bad JSON on line 3", good * 2 + '{"prompt": "a}\n' + good, "bad.jsonl:3"),
        ("no prompt on line 2", good + '{"text": "a"}\n', "bad.jsonl:2", "prompt"),
        ("a number for text", good + '{"prompt": 7}\n', "bad.jsonl:2", "prompt"),
        ("a list, no object", good * 3 + "[1]\n", "bad.jsonl:4"),
        ("a prompt too long", good + json.dumps({"prompt": words}) + "\n", "bad.jsonl:2", "255"),
        ("bytes that are no UTF-8", good.encode() + b'{"prompt": "\xff\xfe"}\n', "bad.jsonl:2"),
        ("an id beyond the vocabulary", '{"prompt_ids": [5, 70000]}\n', "bad.jsonl:1", "70000"),
        ("a negative id", '{"prompt_ids": [-1]}\n', "bad.jsonl:1", "-1"),
        ("a real number for an id", '{"prompt_ids": [1.5]}\n', "bad.jsonl:1", "found real"),
        ("no ids", '{"prompt_ids": []}\n', "bad.jsonl:1"),
        ("a record over several lines", json.dumps({"prompt": "a"}, indent=1) + "\n", "bad.jsonl", "jq -c"),
    )
    out, run = b.folder / "answers.jsonl", b.folder / "run"
    for name, text, *named in cases:
        path = b.write("bad.jsonl", text)
        b.expect(name, ["generate", f"model={b.model}", f"prompts={path}", f"output={out}",
                        "max_new_tokens=2"], *named, out=out)
        if "prompt_ids" in str(text):
            continue
        args = [f"data.prompts={path}" if a.startswith("data.prompts") else a
                for a in b.bench.align_args(run, b.model, "reward.command=cat")]
        b.expect(f"{name}, align", args, *named, out=run)
    missing = b.folder / "nothing.jsonl"
    for command, key in (("generate", "prompts"), ("logprob", "input"), ("tokenize", "input")):
        b.expect(f"{command} without its file", [command, f"model={b.model}", f"{key}={missing}",
                                                 f"output={out}"], "nothing.jsonl", out=out)
    for command, line, *named in (
            ("logprob", '{"ids": [1, 2], "prompt_tokens": 3}', "bad.jsonl:1", "prompt_tokens"),
            ("logprob", '{"prompt": "a"}', "bad.jsonl:1", "completion"),
            ("tokenize", '{"txt": "a"}', "bad.jsonl:1", "text"),
            ("gradient", '{"prompt": "a", "completion": 1}', "bad.jsonl:1", "completion")):
        path = b.write("bad.jsonl", line + "\n")
        b.expect(f"{command} {line}", [command, f"model={b.model}", f"input={path}",
                                       f"output={out}"], *named, out=out)
    for args, key in ((b.bench.sft_args(run), "train"),
                      (b.bench.reward_args(run, b.model), "train")):
        path = b.write("bad.jsonl", '{"prompt": "a"}\n')
        args = [f"data.train={path}" if a.startswith("data.train") else a for a in args]
        b.expect(f"{args[0]} of prompts alone", args, "bad.jsonl:1", out=run)
        args = [f"data.train={missing}" if a.startswith("data.train") else a for a in args]
        b.expect(f"{args[0]} without its file", args, "nothing.jsonl", out=run)
    for name, record in (("ids without a completion", {"ids": [1, 2, 3], "prompt_tokens": 3}), ("one id", {"ids": [1], "prompt_tokens": 1})):
        path = b.write("bad.jsonl", json.dumps({"prompt": "a", "completion": "b"}) + "\n" + json.dumps(record) + "\n")
        args = [f"data.train={path}" if a.startswith("data.train") else a for a in b.bench.sft_args(run)]
        b.expect(f"sft on {name}", args, "bad.jsonl:2", "completion is empty", out=run)
    empty = {"prompt": "a", "completion": ""}
    path = b.write("bad.jsonl", "".join(json.dumps(x) + "\n" for x in ({"prompt": "a", "completion": "b"}, empty, empty)))
    args = [f"data.train={path}" if a.startswith("data.train") else a for a in b.bench.sft_args(run, steps=1)]
    r = b.bench.good(*args)
    b.bench.check("2 of 3 records have an empty completion, first in line 2" in r.err, "empty completions", r)
    shutil.rmtree(run)
    b.expect("score by a model that writes", ["score", f"model={b.model}",
                                              f"input={b.prompts}"], "classifi")


def pairs(b):
    """Checks that a preference record that cannot be used is refused with its line number."""
    run = b.folder / "run"
    turns = [{"role": "user", "content": "hi"}]
    yes, no = ([{"role": "assistant", "content": text}] for text in ("yes", "no"))
    good = {"prompt": "ask: hi.\nreply:", "chosen": " good day", "rejected": " no"}

    def args(records, *more, method="dpo"):
        path = b.write("bad.jsonl", "".join(json.dumps(r) + "\n" for r in records))
        return [f"data.train={path}" if a.startswith("data.train") else a for a in
                b.bench.prefer_args(run, b.model, f"method.name={method}", *more, steps=2)]

    tool = [{"type": "function", "function": {"name": "look"}}]
    for name, record, *words in (
            ("no rejected", {"prompt": "a", "chosen": "x"}, "rejected"),
            ("null for rejected", {**good, "rejected": None}, "rejected"),
            ("an empty prompt", {**good, "prompt": ""}, "prompt"),
            ("no messages", {**good, "prompt": []}, "prompt", "0 messages"),
            ("three messages, no place for them", {"prompt": turns + yes + turns, "chosen": yes,
                                                   "rejected": no}, "{#messages}"),
            ("an answer of three messages", {"prompt": turns, "chosen": yes + turns + yes,
                                             "rejected": no}, "chosen", "3 messages"),
            ("nothing in common", {"chosen": "yes", "rejected": "no"}, "prompt"),
            ("a part that is no text", {"prompt": [{"role": "user", "content": [{"type": "image"}]}],
                                        "chosen": yes, "rejected": no}, "content", "image"),
            ("tools", {**good, "tools": tool}, '"tools"'),
            ("calls of tools", {"prompt": turns, "chosen": [{**yes[0], "tool_calls": tool}],
                                "rejected": no}, "chosen[0].tool_calls"),
            ("a NUL", {**good, "prompt": "a\0b"}, "NUL"),
            ("half a character", {**good, "prompt": "a\ud800"}, "ud800")):
        b.expect(name, args([good, record]), "bad.jsonl:2", *words, out=run)
    for name, more, *words in (
            ("nothing chosen, no end token", ["append_eos=false"], "bad.jsonl:1", '"chosen"'),
            ("no scores", [], "bad.jsonl:1", "score_chosen")):
        record = {**good, "chosen": ""} if more else good
        b.expect(name, args([record], *more, method="dpo" if more else "rdo"), *words, out=run)
    for scores, *words in (((1, 2), "not lower"), (("1", 2), "score_chosen", "string"),
                           ((1, None), "score_rejected")):
        record = {**good, **dict(zip(("score_chosen", "score_rejected"), scores))}
        b.expect(f"scores {scores}", args([record], method="optune"), "bad.jsonl:1", *words,
                 out=run)
    same = {**good, "rejected": good["chosen"]}
    b.expect("two answers that are one", args([same, same]), "in all 2 records", out=run)
    for method in ("spa", "psle"):
        b.expect(f"{method} on given pairs", args([good], method=method), "method.name", "dpo",
                 out=run)
    r = b.bench.good(*args([good, same, {**good, "tools": [], "extra": 1}]))
    b.bench.check("1 of 3 records" in r.err and "line 2" in r.err, "one pair of one answer:", r)
    shutil.rmtree(run)


# ---- configuration ------------------------------------------------------------------------------

def configuration(b):
    run = b.folder / "run"
    align = b.bench.align_args(run, b.model, "reward.command=cat")

    def yaml(text):
        folder = b.folder / f"yaml-{abs(hash(text))}"
        folder.mkdir()
        (folder / "bad.yaml").write_text(text)
        return [align[0], folder / "bad.yaml", *align[1:]]

    cases = (
        ("an unknown key", [*align, "train.learning_rat=1"], "learning_rat", "learning_rate"),
        ("an unknown key in YAML", yaml("train:\n  iteratons: 3\n"), "bad.yaml:2:3",
         "iteratons", "iterations"),
        ("a wrong type", [*align, "train.epochs=many"], "train.epochs", "many"),
        ("a wrong type in YAML", yaml("train:\n  epochs: [1]\n"), "bad.yaml:2", "epochs"),
        ("out of range", [*align, "generate.temperature=-1"], "generate.temperature", "-1"),
        ("not a number", [*align, "learning_rate=nan"], "learning_rate", "nan"),
        ("a syntax error", yaml("train:\n  epochs: 3\n bad: [1\n"), "bad.yaml:"),
        ("no such YAML file", [align[0], b.folder / "none.yaml", *align[1:]], "none.yaml"),
        ("an option of another command", [*align, "eval.samples=2"], "eval.samples", "eval"),
        ("an argument without =", [*align, "epochs"], "epochs"),
        ("an unknown method", [*align, "method.name=pslee"], "pslee", "psle"),
        ("an odd group", [*align, "group_size=3"], "group_size", "3"),
        ("no principles", [*align, "method.principles="], "principles"),
        ("principles that are not there", [*align, "method.principles=none.txt"], "method.principles",
         "none.txt"),
        ("more prompts than there are", [*align, "prompts_per_iteration=4000"],
         "prompts_per_iteration", "4000"),
        ("no reward", align[:-1], "reward"),
        ("an octal number", yaml("train:\n  epochs: 010\n"), "train.epochs", "'010'"),
        ("an octal seed", [*align, "seed=017"], "seed", "'017'"),
        ("blanks around =", [*align, "learning_rate", "=1e-5"], "learning_rate=1e-5"),
        ("an empty stop text", [*align, 'stop=["a", ""]'], "generate.stop", "an empty text"),
        ("too many threads", [*align, "threads=1025"], "threads", "1024"),
        ("a template without its place", [*align, "data.prompt_template=fixed"],
         "prompt_template"),
    )
    for name, args, *words in cases:
        b.expect(name, args, *words, out=run)
    b.expect("an unknown command", ["alignn"], "alignn", "'align'", threads=None)
    b.expect("help for an unknown command", ["help", "alin"], "alin", "align", threads=None)
    if b.bench.mpirun: # an error that every rank finds is printed once
        r = b.expect("an unknown key on 2 ranks", [*align, "train.learning_rat=1"],
                     "learning_rate", out=run, ranks=2, code=12)
        b.bench.check(r.err.count("learning_rate") == 1, "2 ranks say the same:", r)


def missing_data(b):
    """Checks that a training command without data is refused, although `plumb plan` then assumes
    records."""
    for command, key in (("sft", "train"), ("reward", "train"), ("prefer", "train"), ("align", "prompts")):
        for name, more in (("not given", []), ("empty", [f"data.{key}="])):
            out = b.folder / "no-data"
            args = [command, f"model={b.model}", f"output_dir={out}", "data.max_tokens=64", *more]
            b.expect(f"{command}, data.{key} {name}", args, f"data.{key}", "is not set", out=out)


# ---- inputs that change during a run ------------------------------------------------------------

def changed_inputs(b):
    """Checks that a resumed run is refused if its inputs have changed."""
    run, prompts = b.folder / "changed", b.folder / "prompts.jsonl"
    shutil.copy(b.bench.world / "prompts.jsonl", prompts)
    words = b.write("words.txt", "bread\n")
    reference = b.copy()
    args = [f"data.prompts={prompts}" if a.startswith("data.prompts") else a
            for a in b.bench.align_args(run, b.model, "checkpoint.keep_last=0",
                                        "reward.functions=[{name: length, target: 5}, "
                                        f"{{name: words, file: {words}}}]",
                                        f"method.reference={reference}", method="dpo")]
    b.bench.good(*args)
    shutil.rmtree(run / "checkpoint-4")
    (run / "latest").unlink()
    weights = reference / "model.safetensors"
    for path, key in ((prompts, "data.prompts"), (words, "reward.functions[1].file"),
                      (weights, "method.reference")):
        was = path.read_bytes()
        # without hashes.json the folder is no checkpoint of plumb, so plumb hashes the file itself
        if path == weights:
            (reference / "hashes.json").unlink()
            b.expect("no hashes.json", [*args, "resume=auto", "max_time=1e-3"], code=99)
        path.write_bytes(was[:-1] + bytes([was[-1] ^ 1]) if path == weights else was + was[-90:]
                         if path == words else was + was.splitlines(keepends=True)[0])
        b.expect(f"another {path.name} at resume", [*args, "resume=auto"], key, "when the run began",
                 keep=run)
        path.write_bytes(was)
    b.bench.good(*args, "resume=auto")


# ---- rewards ------------------------------------------------------------------------------------

def rewards(b):
    run = b.folder / "run"

    def align(*more):
        shutil.rmtree(run, ignore_errors=True)
        return b.bench.align_args(run, b.model, *more)

    score = b.write("score.py", "import sys\nfor line in sys.stdin:\n"
                                "    print('{\"score\": 1}', flush=True)\n")
    only_rank_1 = b.write("rank.sh", 'if [ "$OMPI_COMM_WORLD_RANK" = 1 ]; then echo broken >&2; '
                                     f"exit 3; fi\nexec {sys.executable} {score}\n")
    for name, args, *words in (
            ("a command that dies", ["reward.command=exit 3"], "reward", "exit 3"),
            ("a command that dies at once", ["reward.command=read x; exit 3", "restarts=1"],
             "reward"),
            ("a command that hangs", ["reward.command=sleep 600", "reward.timeout=0.3",
                                      "reward.restarts=0"], "reward", "0.3 s"),
            ("a command that prints garbage",
             ["reward.command=while read x; do echo garbage; done"], "reward", "garbage"),
            ("a command that scores nothing",
             ["reward.command=while read x; do echo '{\"score\": null}'; done"], "reward", "null"),
            ("a command that says NaN",
             ["reward.command=while read x; do echo '{\"score\": NaN}'; done"], "reward"),
            ("a command that is not there", ["reward.command=no-such-program"],
             "no-such-program")):
        b.expect(name, align(*args), *words)
        b.bench.check(not (run / "latest").exists(), name, "leaves a checkpoint")
    for name, args, *words in (
            ("no reward model", ["reward.model=nowhere"], "reward.model", "nowhere"),
            ("a reward model that writes", [f"reward.model={b.model}"], "reward.model"),
            ("an unknown function", ["reward.functions=[{name: lenght}]"], "lenght", "length"),
            ("a broken expression", ["reward.functions=[{name: regex, pattern: '('}]"], "regex",
             "(")):
        b.expect(name, align(*args), *words, out=run)
    if b.bench.mpirun:
        # No rank may wait for a time-out: this one is longer than the test may take.
        b.expect("a command that fails on rank 1",
                 align(f"reward.command=sh {only_rank_1}", "max_missing=0.1", "comm.timeout=3600"),
                 "rank 1", "reward", ranks=2)


# ---- output -------------------------------------------------------------------------------------

def outputs(b):
    full = b.folder / "full"
    full.mkdir()
    (full / "precious.txt").write_text("mine")
    for name, out, *words in (
            ("a folder that holds something", full, str(full), "not empty"),
            ("a file for a folder", full / "precious.txt", "precious.txt"),
            ("a folder that cannot be", "/proc/plumb/run", "/proc/plumb")):
        for args in (b.bench.sft_args(out), b.bench.reward_args(out, b.model),
                     b.bench.align_args(out, b.model, "reward.command=cat")):
            b.expect(f"{args[0]} into {name}", args, *words, keep=full)
    if b.bench.mpirun:
        b.expect("2 ranks into a full folder", b.bench.sft_args(full), str(full), keep=full,
                 ranks=2)
    generate = ["generate", f"model={b.model}", f"prompts={b.prompts}", "max_new_tokens=2"]
    for path in ("~/run", "$HOME/run", "${HOME}/run"):
        b.expect(f"a run into {path}", b.bench.sft_args(path), "does not expand", f"./{path}")
        b.expect(f"answers into {path}", [*generate, f"output={path}"], "does not expand")
    b.bench.check(not (b.folder / "~").exists() and not (b.folder / "$HOME").exists(), "a folder ~ was made")
    b.expect("an answer into no folder", [*generate, f"output={b.folder}/no/answers.jsonl"],
             "answers.jsonl")
    b.expect("an answer over a folder", [*generate, f"output={full}"], str(full), keep=full)
    for args in (generate, ["logprob", f"model={b.model}"], ["tokenize", f"model={b.model}"],
                 ["doctor"], ["help"]):
        full_device(b, args)


def full_device(b, args):
    """Checks that it is an error if standard output is a file on a full disk."""
    if not os.path.exists("/dev/full"):
        return
    text = {"logprob": '{"ids": [1, 2], "prompt_tokens": 1}\n', "tokenize": '{"text": "a"}\n'}
    with open("/dev/full", "w", encoding="utf-8") as sink:
        r = subprocess.run([b.bench.plumb, *args], input=text.get(args[0], ""), stdout=sink,
                           stderr=subprocess.PIPE, text=True, timeout=LIMIT, check=False)
    b.bench.check(0 < r.returncode < 100 and "standard output" in r.stderr,
                  args[0], "onto a full disk:", r.returncode, r.stderr)


def pipe(b):
    """Checks that an output that is a named pipe is written to and not replaced by a file."""
    path = b.folder / "pipe"
    os.mkfifo(path)
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE, text=True) as reader:
        b.bench.good("generate", f"model={b.model}", f"prompts={b.prompts}", "max_new_tokens=2",
                     f"output={path}")
        b.bench.check(path.is_fifo(), "a pipe was replaced by a file")
        if not path.is_fifo():
            reader.kill()
        b.bench.check(len(reader.communicate(timeout=LIMIT)[0].splitlines()) == 4,
                      "a pipe got other than 4 lines")


def disk_full(b):
    disk = b.folder / "disk"
    disk.mkdir()

    def mount(size, *how):
        return subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join((f"size={size}", *how)),
                               "tmpfs", disk], capture_output=True, check=False).returncode == 0
    if os.geteuid() != 0 or not mount("16k"):
        print("not run: a full disk (needs root and mount)")
        return
    try:
        (disk / "answers.jsonl").write_text("before")
        many = b.write("many.jsonl", '{"prompt": "ask: hi."}\n' * 200)
        b.expect("answers onto a full disk",
                 ["generate", f"model={b.model}", f"prompts={many}", "max_new_tokens=8",
                  f"output={disk}/answers.jsonl"], "answers.jsonl", "space", keep=disk)
        run = disk / "run"
        args = b.bench.align_args(run, b.model, "checkpoint.keep_last=0",
                                  "reward.functions=[{name: length, target: 5}]", iterations=4)
        mount("5m", "remount")
        r = b.expect("checkpoints onto a full disk", args, "checkpoint-", "room")
        b.bench.check("no room for a checkpoint" not in r.err, "a warning, but there was room for a checkpoint:", r)
        left = sorted(p.name for p in run.glob("checkpoint-*"))
        b.bench.check(left and not any(n.endswith(".tmp") for n in left), "a full disk left", left)
        other = disk / "other"
        shutil.rmtree(run)
        mount("64k", "remount")
        args = b.bench.align_args(other, b.model, "reward.functions=[{name: length, target: 5}]",
                                  prompts=64)
        b.expect("rollouts onto a full disk", args, "rollouts", "space", "no room for a checkpoint: it needs about")
        left = sorted(p.name for p in (other / "rollouts").glob("*"))
        b.bench.check(not left, "a full disk left", left)
        mount("20m", "remount")
        b.bench.good(*args, "resume=auto")
    finally:
        subprocess.run(["umount", disk], check=False)


# ---- ranks --------------------------------------------------------------------------------------

def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def lost_rank(b):
    if not b.bench.mpirun:
        print("not run: lost ranks (there is no mpirun)")
        return
    slow = b.write("slow.py", "import sys, time\nfor line in sys.stdin:\n    time.sleep(0.01)\n"
                              "    print('{\"score\": 1}', flush=True)\n")
    for name, sign, words in (("killed", signal.SIGKILL, ()), ("stopped", signal.SIGSTOP,
                                                                ("rank 1",))):
        run = b.folder / f"lost-{name}"
        p = b.bench.start(b.bench.align_args(run, b.model, "comm.timeout=3", "iterations=50",
                                             f"reward.command={sys.executable} {slow}"), ranks=2)
        end = time.monotonic() + LIMIT
        while not (run / "latest").exists() and p.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        ranks = [common.rank_process(p, r) for r in (0, 1)]
        b.bench.check(None not in ranks, f"rank 1 {name}: the run has not started", p.poll())
        if None in ranks:
            common.kill_tree(p)
            p.communicate()
            continue
        os.kill(ranks[1], sign)
        try:
            _, err = p.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            common.kill_tree(p)
            _, err = p.communicate()
            b.bench.check(False, f"rank 1 {name}: the job hangs:", err.decode()[-2000:])
            continue
        err = err.decode()
        b.bench.check(p.returncode != 0, f"rank 1 {name}: exit code 0")
        for word in words:
            b.bench.check(word in err, f"rank 1 {name}: no '{word}' in", err[-2000:])
        end = time.monotonic() + 30
        while any(map(alive, ranks)) and time.monotonic() < end:
            time.sleep(0.05)
        for rank in filter(alive, ranks):
            os.kill(rank, signal.SIGKILL)
            b.bench.check(False, f"rank 1 {name}: a rank outlives the job")


def test(bench):
    b = Bad(bench)
    for part in (models, records, missing_data, pairs, configuration, changed_inputs, rewards,
                 outputs, pipe, disk_full, lost_rank):
        part(b)


common.main(test)
