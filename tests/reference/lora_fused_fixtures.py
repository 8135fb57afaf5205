"""Writes tests/fixtures/lora_fused/ with peft and torch: adapters and their results in float64,
for models whose modules have other names than Llama's. Most of these modules contain several
projections.

  phi3/        of tests/fixtures/model/phi3_short: qkv_proj, gate_up_proj
  gpt2/        of gpt2: c_attn, a Conv1D (fan_in_fan_out)
  gpt_neox/    of gpt_neox: query_key_value, which is stored head by head
  starcoder2/  of starcoder2: c_proj, here only in the MLP; GPT-2's attention also has a c_proj
  helium/      of helium: q_proj, in whose files the two rows of a rotary pair are neighbours
  glm4/        of glm4: gate_up_proj, together with q_proj, k_proj and v_proj

Each folder has all/ (an adapter of all modules, r 3, alpha 6), one/ (an adapter of the first
module named above, r 2, alpha 5), and input.jsonl, expected.json, gradient.safetensors,
steps.safetensors, merged.safetensors as in lora_fixtures.py.
Run:  python lora_fused_fixtures.py ../fixtures/model ../fixtures/lora_fused"""
import copy
import json
import pathlib
import shutil
import sys

import torch
from lora_fixtures import LENGTHS, PROMPTS, adapted, keep, logprobs, loss_of, tensors, two_steps
from model_fixtures import in_files
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

FAMILIES = {"phi3": ("phi3_short", "qkv_proj"), "gpt2": ("gpt2", "c_attn"), "gpt_neox": ("gpt_neox", "query_key_value"),
            "starcoder2": ("starcoder2", "c_proj"), "helium": ("helium", "q_proj"), "glm4": ("glm4", "gate_up_proj")}


def family(base, folder, module):
    folder.mkdir(parents=True)
    g = torch.Generator().manual_seed(12)
    ids = [torch.randint(1, 51, (n,), generator=g) for n in LENGTHS]
    (folder / "input.jsonl").write_text("".join(
        json.dumps({"ids": i.tolist(), "prompt_tokens": p}) + "\n" for i, p in zip(ids, PROMPTS)))
    causal, out = dict(task_type="CAUSAL_LM", lora_dropout=0.0), {}
    model = keep(adapted(AutoModelForCausalLM, base, 1, r=3, lora_alpha=6, target_modules="all-linear", **causal),
                 folder / "all")
    out["all"] = [logprobs(model, i, p).tolist() for i, p in zip(ids, PROMPTS)]
    loss = loss_of(model, ids)
    loss.backward()
    out["loss"] = loss.item()
    named = {k.replace(".default", ""): p.grad for k, p in model.named_parameters() if p.requires_grad}
    save_file({k: v.float().contiguous() for k, v in named.items()}, folder / "gradient.safetensors")
    merged = copy.deepcopy(model).merge_and_unload().state_dict()
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    save_file({in_files(k, model.config): v.float().contiguous() for k, v in merged.items() if k not in tied and not k.endswith(
        (".attn.bias", ".masked_bias", "inv_freq"))}, folder / "merged.safetensors")
    out["losses"] = two_steps(model, ids)
    save_file(tensors(model), folder / "steps.safetensors")
    model = keep(adapted(AutoModelForCausalLM, base, 2, r=2, lora_alpha=5, target_modules=[module], **causal),
                 folder / "one")
    out["one"] = [logprobs(model, i, p).tolist() for i, p in zip(ids, PROMPTS)]
    (folder / "expected.json").write_text(json.dumps(out, indent=1) + "\n")


def main(models, folder):
    models, folder = pathlib.Path(models), pathlib.Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    for name, (fixture, module) in FAMILIES.items():
        family(models / fixture, folder / name, module)


if __name__ == "__main__":
    main(*sys.argv[1:])
