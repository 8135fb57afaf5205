#!/usr/bin/env python3
"""gemma3_by_hand.py PLUMB MODEL WORK - compares plumb with transformers in float64 on Gemma 3 with 270 M parameters.

MODEL is a folder that convert_gemma3.py has written. WORK is a folder for a gradient of 1.1 GB. This script is not part of
the test suite, because Google's terms do not allow a copy of the model in the source tree. It needs torch, transformers, 10
GB of memory and some minutes. It compares the ids and the decoded text of 500 lines, the log-probs of 6 texts, 10 greedy
answers of 40 tokens, and for every tensor the gradient of the texts' mean negative log-likelihood. It prints the largest
differences."""
import json
import pathlib
import subprocess
import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "reference"))
from model_fixtures import norm64  # noqa: E402
from smollm2_fixtures import CODE, LATIN, OTHER, lines  # noqa: E402

LINES, GREEDY = 500, 40
EXTRA = ["<start_of_turn>user\nhi<end_of_turn>\n", "a<eos>b", "<unused7>x", "\n" * 7 + "  " * 5 + "\t\t", "▁▁ x ▁", "<table><td>1</td></table>",
         "<0x41><0x0A>", " leading and trailing  "]
ASKED = ["The capital of France is", "Water boils at", "def fibonacci(n):\n    ", "Once upon a time,", "1, 2, 3, 4,", "The opposite of hot is",
         "Photosynthesis is", "Der Himmel ist", "List of planets:\n1. Mercury\n2.", "Dear Sir or Madam,\n"]
TEXTS = [("The capital of France is", " Paris, and that of Italy is Rome."), ("def add(a, b):", "\n    return a + b\n"),
         ("Grün 🟢 ist", " eine Farbe, 紫色 auch."), ("One two three", " four five six seven eight nine ten"),
         (" ".join(LATIN * 3), " " + " ".join(OTHER)), ("".join(CODE), "\n\n" + CODE[1])]


def plumb(exe, *args, records):
    text = "".join(json.dumps(x) + "\n" for x in records)
    r = subprocess.run([exe, *map(str, args), "log_level=warn"], input=text, text=True, capture_output=True, encoding="utf-8")
    if r.returncode:
        sys.exit(f"plumb {' '.join(map(str, args))}: exit code {r.returncode}\n{r.stderr}")
    return [json.loads(x) for x in r.stdout.splitlines()]


def tokens(exe, folder, tok):
    texts, bad = (EXTRA + lines())[:LINES], 0
    got = plumb(exe, "tokenize", f"tokenizer={folder}", "input=-", "special=true", records=[{"text": t} for t in texts])
    for t, y in zip(texts, got):
        ids = tok(t).input_ids
        bad += y["ids"] != ids or y["decoded"] != tok.decode(ids)
    print(f"{len(got)} of {len(texts)} lines, {bad} with other ids or other text")
    return bad + abs(len(got) - len(texts))


def logprobs(exe, folder, tok, model):
    """Compares log-probs. Returns the records. The gradient of the mean log-prob stays in the
    parameters of the torch model."""
    records, total, count, worst = [], 0.0, 0, 0.0
    for prompt, answer in TEXTS:
        head = tok(prompt).input_ids
        both = head + tok(answer, add_special_tokens=False).input_ids
        records.append({"ids": both, "prompt_tokens": len(head)})
    got = plumb(exe, "logprob", f"model={folder}", "input=-", "append_eos=false", records=records)
    for x, y in zip(records, got):
        ids, n = torch.tensor(x["ids"]), x["prompt_tokens"]
        logp = torch.log_softmax(model(ids[None]).logits[0, n - 1:-1], -1).gather(1, ids[n:, None])[:, 0]
        assert len(logp) == len(y["logprobs"])
        worst = max(worst, max(abs(a - b) for a, b in zip(logp.tolist(), y["logprobs"])))
        (-logp.sum()).backward()
        total, count = total - logp.sum().item(), count + len(logp)
    print(f"log-probs of {count} tokens (mean {total / count:.3f} nats below 0): largest difference {worst:.1e} nats")
    return records, count, worst


def gradients(exe, folder, model, records, count, work):
    out = work / "gradient.safetensors"
    plumb(exe, "gradient", f"model={folder}", "input=-", "append_eos=false", f"output={out}", "micro_batch_size=1", records=records)
    with open(out, "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(n))
    header.pop("__metadata__", None)
    theirs = {name: p.grad for name, p in model.named_parameters()}
    assert set(header) == set(theirs), sorted(set(header) ^ set(theirs))[:4]
    worst = (0.0, "")
    for name, x in header.items():
        begin, end = x["data_offsets"]
        ours = np.memmap(out, np.float32, "r", 8 + n + begin, ((end - begin) // 4,))
        want = theirs[name].flatten().numpy() / count
        step, off, size = 1 << 24, 0.0, 0.0
        for i in range(0, len(want), step):
            off += ((ours[i:i + step] - want[i:i + step]) ** 2).sum()
            size += (want[i:i + step] ** 2).sum()
        worst = max(worst, ((off / size) ** 0.5, name))
    out.unlink()
    print(f"gradients of {len(header)} tensors: largest norm of the difference {worst[0]:.1e} of the tensor's norm ({worst[1]})")
    return worst[0]


@torch.no_grad()
def greedy(exe, folder, tok, model):
    got = plumb(exe, "generate", f"model={folder}", "prompts=-", "temperature=0", f"max_new_tokens={GREEDY}",
                records=[{"prompt": t} for t in ASKED])
    parted = 0
    for text, y in zip(ASKED, got):
        fresh, ids, past = tok(text).input_ids, [], None
        for i in range(GREEDY):
            step = model(torch.tensor([fresh]), past_key_values=past, use_cache=True)
            best = torch.log_softmax(step.logits[0, -1], -1).topk(2)
            fresh, past = [best.indices[0].item()], step.past_key_values
            ids += fresh
            if i >= len(y["completion_ids"]) or y["completion_ids"][i] != ids[i]:
                margin = (best.values[0] - best.values[1]).item()
                print(f"the answer to {text!r} parts at token {i}, where the two best are {margin:.1e} nats apart")
                parted += margin > 1e-3
                break
            if ids[i] == tok.eos_token_id:
                break
        print(f"{text!r} -> {y['text']!r}")
    print(f"{len(got)} greedy answers, {parted} of them part by more than 1e-3 nats")
    return parted


def main(exe, folder, work):
    tok = AutoTokenizer.from_pretrained(folder)
    bad = tokens(exe, folder, tok)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="sdpa").eval()
    for m in model.modules():
        if type(m).__name__.endswith("RMSNorm"):
            m.forward = norm64(m)
    bad += greedy(exe, folder, tok, model)
    records, count, off = logprobs(exe, folder, tok, model)
    bad += off > 1e-4
    bad += gradients(exe, folder, model, records, count, work) > 1e-3
    print("equal" if not bad else f"{bad} faults")
    return bool(bad)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: gemma3_by_hand.py PLUMB MODEL WORK")
    sys.exit(main(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])))
