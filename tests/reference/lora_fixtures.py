"""Writes tests/fixtures/lora/ with peft and torch: adapters for the model of
tests/fixtures/prefer, and results of these adapters in float64.

  all/      adapter of all projections, r 4, alpha 8, as peft saves it
  rs/       adapter of q_proj and v_proj with rslora, r 3, alpha 5
  score/    adapter of a sequence classifier, r 2, alpha 4, with its score row
  input.jsonl          ids and prompt_tokens of the sequences
  expected.json        log-probs of the completions under `all` and `rs`, scores under `score`
  gradient.safetensors gradient of the mean negative log-likelihood for every matrix of `all`
  steps.safetensors    `all` after two AdamW steps on that loss (learning rate 0.1, epsilon 1)
  merged.safetensors   the model with `all` merged by peft

Weights are float32; all computations with them are in float64. Run with a Python that has peft,
transformers and torch:
  python lora_fixtures.py ../fixtures/prefer/model ../fixtures/lora"""
import copy
import json
import pathlib
import shutil
import sys

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

LENGTHS, PROMPTS = (9, 24, 40, 17), (3, 10, 1, 16)
STEP = dict(lr=0.1, eps=1.0, betas=(0.9, 0.999), weight_decay=0.0)


def norm64(module):
    def forward(x):
        return module.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + module.variance_epsilon))
    return forward


def double(model):
    model = model.double().eval()
    for m in model.modules():
        if type(m).__name__.endswith("RMSNorm"):
            m.forward = norm64(m)
    return model


def adapted(cls, base, seed, **options):
    model = cls.from_pretrained(base, dtype=torch.float32, attn_implementation="sdpa",
                                **({"num_labels": 1} if "Sequence" in cls.__name__ else {}))
    model = get_peft_model(model, LoraConfig(base_model_name_or_path="base", **options))
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad:
                p.copy_(0.2 * torch.randn(p.shape, generator=g))
    return model


def keep(model, folder):
    """Saves the adapter to a folder, without the path of its base model, which only exists on
    this machine."""
    model.peft_config["default"].base_model_name_or_path = "base"
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    return double(model)


def logprobs(model, ids, prompt):
    logp = torch.log_softmax(model(ids[None]).logits[0], -1)
    return logp[prompt - 1:-1].gather(1, ids[prompt:, None])[:, 0]


def loss_of(model, ids):
    return -torch.cat([logprobs(model, i, p) for i, p in zip(ids, PROMPTS)]).mean()


def two_steps(model, ids):
    """Runs two AdamW steps on the adapter. Returns the loss before each step."""
    optim = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], **STEP)
    losses = []
    for _ in range(2):
        optim.zero_grad()
        loss = loss_of(model, ids)
        loss.backward()
        optim.step()
        losses.append(loss.item())
    return losses


def tensors(model):
    return {k: v.detach().float().contiguous() for k, v in get_peft_model_state_dict(model).items()}


def main(base, folder):
    folder = pathlib.Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    g = torch.Generator().manual_seed(11)
    ids = [torch.randint(1, 257, (n,), generator=g) for n in LENGTHS]
    (folder / "input.jsonl").write_text("".join(
        json.dumps({"ids": i.tolist(), "prompt_tokens": p}) + "\n" for i, p in zip(ids, PROMPTS)))
    out = {}
    causal = dict(task_type="CAUSAL_LM", lora_dropout=0.0)
    model = keep(adapted(AutoModelForCausalLM, base, 1, r=4, lora_alpha=8,
                         target_modules="all-linear", **causal), folder / "all")
    out["all"] = [logprobs(model, i, p).tolist() for i, p in zip(ids, PROMPTS)]
    loss = loss_of(model, ids)
    loss.backward()
    out["loss"] = loss.item()
    named = {k.replace(".default", ""): p.grad for k, p in model.named_parameters() if p.requires_grad}
    save_file({k: v.float().contiguous() for k, v in named.items()}, folder / "gradient.safetensors")
    merged = copy.deepcopy(model).merge_and_unload().state_dict()
    save_file({k: v.float().contiguous() for k, v in merged.items() if k != "lm_head.weight"},
              folder / "merged.safetensors")
    out["losses"] = two_steps(model, ids)
    save_file(tensors(model), folder / "steps.safetensors")
    model = keep(adapted(AutoModelForCausalLM, base, 2, r=3, lora_alpha=5, use_rslora=True,
                         target_modules=["q_proj", "v_proj"], **causal), folder / "rs")
    out["rs"] = [logprobs(model, i, p).tolist() for i, p in zip(ids, PROMPTS)]
    model = keep(adapted(AutoModelForSequenceClassification, base, 3, r=2, lora_alpha=4,
                         target_modules="all-linear", task_type="SEQ_CLS"), folder / "score")
    # each sequence is computed alone, so the score is read at its last token
    model.config.pad_token_id = None
    out["score"] = [model(i[None]).logits[0, 0].item() for i in ids]
    (folder / "expected.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
