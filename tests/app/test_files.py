#!/usr/bin/env python3
"""test_files.py: checks unusual files, folders and descriptors: closed standard streams, limits of file
size, long paths, links, pipes, outputs that are also inputs, and files whose contents do not fit
their names."""
import gzip
import json
import os
import resource
import shutil
import subprocess

import common

LIMIT = 120  # seconds; a command that takes longer counts as hanging
COMPRESSED = gzip.compress(b'{"prompt": "a", "completion": "b"}\n')
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234\n"


class Files:
    """Holds a model and a training file."""

    def __init__(self, bench):
        self.bench, self.folder = bench, bench.folder
        self.model = bench.base().resolve()
        self.train = self.folder / "train.jsonl"
        self.train.write_text('{"prompt": "ask: hi.", "completion": " hello."}\n' * 8)
        self.texts = self.folder / "texts.jsonl"
        self.texts.write_text('{"text": "ask: hi."}\n' * 4)

    def sft(self, out, *more):
        return ["sft", f"model={self.model}", f"train={self.train}", f"output_dir={out}",
                "global_batch_size=8", "max_steps=2", *more]

    def shell(self, script, args):
        """Runs a shell script that has plumb as "$@". Returns (exit code, standard error)."""
        alone = args[0] in ("help", "version")
        words = [self.bench.plumb, *args] if alone else self.bench.command(args)
        command = ["sh", "-c", script, "sh", *map(str, words)]
        p = subprocess.run(command, cwd=self.folder, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT)
        return p.returncode, p.stderr.decode(errors="replace")

    def refuses(self, what, args, *words):
        """Checks that the command fails by itself, not by a signal, and that its message has
        these texts."""
        r = self.bench.run(*args, timeout=LIMIT)
        self.bench.check(r.code is not None and 0 < r.code < 100, what, "ends badly:", r)
        for word in words:
            self.bench.check(word in r.err, what, f"does not say '{word}':", r)
        return r


def closed_descriptors(f):
    """Checks plumb with closed standard streams: no data file may get one of these descriptors, because
    log lines would then go into that file."""
    for script in ('exec "$@" 2>&-', 'exec "$@" <&- >&- 2>&-'):
        out = f.folder / "closed"
        code, err = f.shell(script, f.sft(out, "log_every=1"))
        f.bench.check(code == 0, "closed:", script, "ends with", code, err)
        for name in ("metrics.jsonl", "config.effective.yaml", "run.json", "latest/config.json"):
            text = (out / name).read_text()
            f.bench.check("step " not in text and "plumb sft:" not in text, name, "has log lines")
        for line in (out / "metrics.jsonl").read_text().splitlines():
            json.loads(line)
        shutil.rmtree(out)
    tokenize = ["tokenize", f"model={f.model}", f"input={f.texts}"]
    for script, args, words in (('exec "$@" >&-', tokenize, "standard output"),
                                ('exec "$@" >/dev/full', tokenize, "standard output"),
                                ('exec "$@" <&-', tokenize[:2], "standard input"),
                                ('exec "$@" >/dev/full', ["version"], ""),
                                ('exec "$@" >/dev/full', ["help"], "standard output")):
        code, err = f.shell(script, args)
        f.bench.check(0 < code < 100 and words in err, script, args[0], "ends with", code, err)


def closed_pipe(f):
    """Checks that it is an error, without a signal, if the reader of the output pipe has ended."""
    many = f.folder / "many.jsonl"
    many.write_text('{"text": "ask: hi."}\n' * 20000)
    p = f.bench.start(["tokenize", f"model={f.model}", f"input={many}"])
    p.stdout.close()
    err = p.stderr.read().decode()
    p.stderr.close()
    code = p.wait(LIMIT)
    f.bench.check(code == 5 and "standard output" in err, "closed pipe:", code, err)


def limited(f):
    """Checks that reaching the limit of file size gives an error message, as on a full disk, and
    leaves no incomplete checkpoint."""
    out = f.folder / "limited"
    size = (f.model / "model.safetensors").stat().st_size // 2
    args = [str(a) for a in f.bench.command(f.sft(out))]
    p = subprocess.run(args, cwd=f.folder, stdin=subprocess.DEVNULL, capture_output=True,
                       timeout=LIMIT, preexec_fn=lambda: resource.setrlimit(
                           resource.RLIMIT_FSIZE, (size, size)))
    err = p.stderr.decode()
    f.bench.check(p.returncode == 5 and "File too large" in err, "limit:", p.returncode, err)
    f.bench.check(not list(out.glob("checkpoint-*")), "limit: leaves", list(out.iterdir()))


def long_paths(f):
    """Checks that long paths work, and that a path that is too long is refused at the start."""
    deep = f.folder
    while len(str(deep)) < 900:
        deep = deep / ("d" * 200)
    deep.mkdir(parents=True)
    r = f.bench.run(*f.sft(deep / "out"))
    f.bench.check(r.code == 0 and (deep / "out/latest/model.safetensors").is_file(), "long:", r)
    r = f.bench.run("tokenize", f"model={deep / 'out/latest'}", f"input={f.texts}",
                    f"output={deep / 'ids.jsonl'}")
    f.bench.check(r.code == 0 and (deep / "ids.jsonl").is_file(), "long output:", r)
    shutil.rmtree(f.folder / ("d" * 200))
    far = "/".join(["e" * 200] * 20)
    r = f.refuses("too long", f.sft(far), "output_dir", "at most")
    f.bench.check("step" not in r.err, "too long: works first", r)
    f.refuses("long name", f.sft("n" * 256), "output_dir", "at most 255")
    f.refuses("long output name",
              ["tokenize", f"model={f.model}", f"input={f.texts}", "output=" + "n" * 252],
              "output", "at most 242")
    f.refuses("no folder for the output",
              ["tokenize", f"model={f.model}", f"input={f.texts}", "output=absent/x.jsonl"],
              "output", "absent")


def links(f):
    """Checks that a model folder that consists of links, as in Hugging Face's cache, can be read, and
    that a message about a dangling link names its target."""
    cache, blobs = f.folder / "snapshot", f.folder / "blobs"
    cache.mkdir()
    blobs.mkdir()
    for path in f.model.iterdir():
        if path.is_file():
            shutil.copy(path, blobs / f"blob-{path.name}")
            (cache / path.name).symlink_to(f"../blobs/blob-{path.name}")
    plain, linked = f.folder / "plain", f.folder / "linked"
    f.bench.good(*f.sft(plain))
    f.bench.good(*f.sft(linked, f"model={cache}"))
    f.bench.same(plain / "latest/model.safetensors", linked / "latest/model.safetensors", "links")
    f.bench.check(not (linked / "latest/tokenizer.json").is_symlink(), "links: copied as a link")
    (blobs / "blob-model.safetensors").unlink()
    f.refuses("dangling", f.sft(f.folder / "no", f"model={cache}"), "blob-model.safetensors")
    shutil.copy(f.model / "model.safetensors", blobs / "blob-model.safetensors")
    (blobs / "blob-generation_config.json").unlink(missing_ok=True)
    (cache / "generation_config.json").unlink(missing_ok=True)
    (cache / "generation_config.json").symlink_to("../blobs/gone")
    f.refuses("dangling optional file", f.sft(f.folder / "no", f"model={cache}"),
              "generation_config.json", "blobs/gone")
    (f.folder / "dangling.jsonl").symlink_to("nowhere.jsonl")
    f.refuses("dangling data", f.sft(f.folder / "no", "train=dangling.jsonl"),
              "dangling.jsonl", "nowhere.jsonl")
    # latest: a dangling link, as `cp -r RUN/latest` makes it; loop: a link to itself
    for name in ("latest", "loop"):
        (f.folder / name).symlink_to("checkpoint-10" if name == "latest" else name)
        f.refuses(f"dangling model {name}", f.sft(f.folder / "no", f"model={name}"), f"model: {name} is a symbolic link to", "cp -rL")
        f.refuses(f"dangling output_dir {name}", f.sft(name), f"output_dir: {name} is a symbolic link to")
    f.bench.check(not (f.folder / "no").exists(), "dangling: leaves a folder")


def outputs_that_are_inputs(f):
    """Checks that a command is refused if its output is one of its inputs."""
    tokenize = ["tokenize", f"model={f.model}", f"input={f.texts}"]
    before = f.texts.read_bytes()
    link = f.folder / "link.jsonl"
    link.symlink_to("texts.jsonl")
    hard = f.folder / "hard.jsonl"
    os.link(f.texts, hard)
    for output in (f.texts, f"./{f.texts.name}", hard, link):
        f.refuses("output is input", [*tokenize, f"output={output}"], "output")
    part = f.folder / "x.tmp"
    shutil.copy(f.texts, part)
    f.refuses("output's temporary file is input",
              [*tokenize[:2], f"input={part}", f"output={f.folder / 'x'}"], "x.tmp")
    f.bench.check(f.texts.read_bytes() == before == part.read_bytes(), "an input was written over")
    tree = common.tree(f.model)
    f.refuses("output_dir is the model", f.sft(f.model, "resume=auto"), "output_dir", "model")
    f.bench.check(common.tree(f.model) == tree, "the model's folder was written to")


def other_kinds(f):
    """Checks that the message about a wrong file says what the file is by its contents, whatever
    its name."""
    count = 0

    def model_with(name, content):
        nonlocal count
        count += 1
        out = f.folder / f"model-{count}"
        shutil.copytree(f.model, out)
        (out / name).write_bytes(content)
        return out

    no = f.folder / "no"
    for name, content, word in (("model.safetensors", POINTER, "git lfs pull"),
                                ("model.safetensors", b"PK\3\4" + b"\0" * 26 + b"x/data.pkl",
                                 "PyTorch"),
                                ("model.safetensors", b"Entry not found", "text file"),
                                ("config.json", b"<!DOCTYPE html><html>", "HTML"),
                                ("config.json", POINTER, "Git LFS"),
                                ("tokenizer.json", COMPRESSED, "gunzip"),
                                ("tokenizer.json", POINTER, "Git LFS"),
                                ("tokenizer_config.json", POINTER, "Git LFS"),
                                ("generation_config.json", b"\0" * 300, "zero bytes")):
        f.refuses(name, f.sft(no, f"model={model_with(name, content)}"), name, word)
    for content, word in ((b"PAR1\x15\4", "read_parquet"),
                          (POINTER, "Git LFS"), (b"<html>", "HTML"),
                          ('{"prompt": "a"}'.encode("utf-16"), "UTF-16"),
                          (b"ARROW1\0\0", "Arrow")):
        path = f.folder / "other.jsonl"
        path.write_bytes(content)
        f.refuses("data", f.sft(no, f"train={path}"), "other.jsonl", word)
        f.refuses("input", ["tokenize", f"model={f.model}", f"input={path}"], "other.jsonl", word)
        f.refuses("configuration", ["sft", path, f"output_dir={no}"], "other.jsonl", word)
    path.write_bytes(gzip.compress(b"PAR1\x15\4"))
    f.refuses("data", f.sft(no, f"train={path}"), "other.jsonl", "read_parquet")
    os.mkfifo(f.folder / "fifo")
    (f.folder / "dir").mkdir()
    for name, word in (("fifo", "named pipe"), ("dir", "folder")):
        f.refuses(name, f.sft(no, f"train={name}"), name, word)
        f.refuses(name, ["sft", name], name, word)
    bin_only = model_with("pytorch_model.bin", b"PK\3\4")
    (bin_only / "model.safetensors").unlink()
    f.refuses("bin", f.sft(no, f"model={bin_only}"), "pytorch_model.bin")
    f.bench.check(not no.exists(), "other kinds: leaves a folder")


def test(bench):
    f = Files(bench)
    for part in (closed_descriptors, closed_pipe, limited, long_paths, links,
                 outputs_that_are_inputs, other_kinds):
        part(f)


common.main(test)
