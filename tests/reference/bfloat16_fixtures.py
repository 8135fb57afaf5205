"""bfloat16_fixtures.py FIXTURES [NAME ...] - writes the errors of transformers in bfloat16, compared with
its float64 results in FIXTURES/<name>/expected.safetensors (by model_fixtures.py).
tests/model/test_parity.c allows plumb a fixed multiple of these errors in bfloat16. Needs torch,
transformers, safetensors; no network.

FIXTURES/<name>/bfloat16.safetensors has, for each tensor of expected.safetensors, two numbers: the norm of
the error over the norm of the tensor, and the largest error over the largest element."""
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from model_fixtures import attention_of, head, in_files, one_rope


def run(model, want):
    ids = want["ids"].long().split(want["lengths"].tolist())
    prompts = want["prompts"].tolist()
    got = {}
    if hasattr(model, "score"):
        got["score"] = torch.cat([model(i[None]).logits for i in ids]).float()
        (got["score"] * want["dscore"]).sum().backward()
    else:
        hidden = [model.base_model(i[None]).last_hidden_state[0] for i in ids]
        logits = [head(model, x).float() for x in hidden]
        picked = [torch.log_softmax(z[p - 1:-1], -1)[torch.arange(len(i) - p), i[p:]]
                  for z, i, p in zip(logits, ids, prompts)]
        got["loss"] = -torch.cat(picked).mean().reshape(1)
        got["logits"] = torch.cat(logits)
        got["embedding"] = torch.stack([x.float()[p:].mean(0) if len(x) > p else 0 * x.float()[0]
                                        for x, p in zip(hidden, prompts)])
        got["loss"].sum().backward()
    got.update({"grad." + in_files(k, model.config): p.grad.float() for k, p in model.named_parameters()})
    return got


def main(root, *names):
    for folder in sorted(p for p in pathlib.Path(root).iterdir() if p.is_dir() and (not names or p.name in names)):
        want = load_file(folder / "expected.safetensors")
        kind = json.loads((folder / "config.json").read_text())["model_type"]
        cls = AutoModelForSequenceClassification if "score" in want else AutoModelForCausalLM
        model = cls.from_pretrained(folder, attn_implementation=attention_of(kind), dtype=torch.bfloat16).eval()
        one_rope(model)
        error = {}
        for name, x in run(model, want).items():
            x, y = x.detach().double(), want[name].double()
            error[name] = torch.stack([(x - y).norm() / y.norm(),
                                       (x - y).abs().max() / y.abs().max()]).float()
        save_file(error, folder / "bfloat16.safetensors")
        worst = max(error, key=lambda k: error[k][0])
        print(f"{folder.name}: {worst} {error[worst].tolist()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
