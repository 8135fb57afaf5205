"""model_fixtures.py OUT - the fixtures of tests/model/test_parity.c, from transformers and torch autograd.

Tiny models with random weights, one per family and feature. The weights are float32, every
computation on them float64: the layers that Hugging Face computes in float32 whatever the model's
dtype (RMSNorm) are replaced by the same formula in float64; the rotation angles stay float32, as
they are part of the definition. Needs torch, transformers, safetensors; no network.

OUT/<name>/config.json, model.safetensors, and expected.safetensors:
  ids (tokens,) lengths (n,) prompts (n,)    the sequences, end to end (no id is the padding id: Hugging Face
                                             reads a score at the last token that is not padding)
  logits (tokens,v)  embedding (n,c)         causal models; embedding: mean last hidden state of the completion
  loss (1,)                                  mean negative log-likelihood of all completion tokens
  score (n,labels)  dscore (n,labels)        classifiers; their loss is sum(score * dscore)
  grad.<parameter>                           of the loss
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
SMALL = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=10000.0,
             hidden_act="silu", initializer_range=0.02, bos_token_id=1, eos_token_id=2, pad_token_id=0)
ODD = dict(SMALL, vocab_size=101, hidden_size=36, intermediate_size=52, num_attention_heads=3, num_key_value_heads=3)
MODELS = {  # name: (model_type, architecture, fields)
    "llama_gqa_tied": ("llama", "LlamaForCausalLM", dict(SMALL, tie_word_embeddings=True)),
    "llama_odd_untied": ("llama", "LlamaForCausalLM", dict(ODD, tie_word_embeddings=False)),
    "llama_bias": ("llama", "LlamaForCausalLM", dict(SMALL, attention_bias=True, mlp_bias=True, tie_word_embeddings=False)),
    "llama_rope_llama3": ("llama", "LlamaForCausalLM", dict(SMALL, num_attention_heads=2, num_key_value_heads=1,
                                                            rope_scaling=LLAMA3, tie_word_embeddings=True)),
    "llama_rope_linear": ("llama", "LlamaForCausalLM", dict(SMALL, tie_word_embeddings=True,
                                                            rope_scaling={"type": "linear", "factor": 4.0})),
    "mistral_window": ("mistral", "MistralForCausalLM", dict(SMALL, num_key_value_heads=1, sliding_window=9,
                                                             tie_word_embeddings=False)),
    "qwen2_bias": ("qwen2", "Qwen2ForCausalLM", dict(SMALL, use_sliding_window=False, sliding_window=8,
                                                     max_window_layers=2, tie_word_embeddings=True)),
    "qwen3_norm": ("qwen3", "Qwen3ForCausalLM", dict(SMALL, hidden_size=40, head_dim=16, tie_word_embeddings=False)),
    "llama_score1": ("llama", "LlamaForSequenceClassification", dict(SMALL, id2label={"0": "LABEL_0"},
                                                                     label2id={"LABEL_0": 0})),
    "qwen2_score3": ("qwen2", "Qwen2ForSequenceClassification",
                     dict(ODD, id2label={str(i): f"LABEL_{i}" for i in range(3)},
                          label2id={f"LABEL_{i}": i for i in range(3)}, tie_word_embeddings=True)),
}
LENGTHS, PROMPTS = [7, 45, 1, 33], [3, 12, 1, 32]


def norm64(module):
    def forward(x):
        return module.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + module.variance_epsilon))
    return forward


def build(folder, name):
    kind, architecture, fields = MODELS[name]
    config = dict({"architectures": [architecture], "model_type": kind, "torch_dtype": "float32"}, **fields)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    cls = AutoModelForSequenceClassification if "Classification" in architecture else AutoModelForCausalLM
    # sdpa: eager attention takes its softmax in float32 whatever the dtype.
    model = cls.from_config(AutoConfig.from_pretrained(folder), attn_implementation="sdpa", dtype=torch.float32)
    g = torch.Generator().manual_seed(sum(map(ord, name)))
    with torch.no_grad():
        for key, p in model.named_parameters():
            r = torch.randn(p.shape, generator=g)
            p.copy_(1 + 0.2 * r if "norm" in key else 0.15 * r)
    save_file({k: p.detach().clone() for k, p in model.named_parameters()}, folder / "model.safetensors",
              metadata={"format": "pt"})
    model = model.double().eval()
    for m in model.modules():
        if type(m).__name__.endswith("RMSNorm"):
            m.forward = norm64(m)
    return model, g


def expected(model, g):
    v = model.config.vocab_size
    ids = [torch.randint(1, v, (n,), generator=g) for n in LENGTHS]
    out = {"ids": torch.cat(ids).int(), "lengths": torch.tensor(LENGTHS).int(), "prompts": torch.tensor(PROMPTS).int()}
    if hasattr(model, "score"):
        score = torch.cat([model(i[None]).logits for i in ids])
        out["score"], out["dscore"] = score, torch.randn(score.shape, generator=g, dtype=torch.float32)
        loss = (score * out["dscore"].double()).sum()
    else:
        hidden = [model.model(i[None]).last_hidden_state[0] for i in ids]
        logits = [model.lm_head(x) for x in hidden]
        picked = [torch.log_softmax(z[p - 1:-1], -1)[torch.arange(len(i) - p), i[p:]]
                  for z, i, p in zip(logits, ids, PROMPTS)]
        loss = -torch.cat(picked).mean()
        out["logits"] = torch.cat(logits)
        out["embedding"] = torch.stack([x[p:].mean(0) if len(x) > p else 0 * x[0] for x, p in zip(hidden, PROMPTS)])
    loss.backward()
    out["loss"] = loss.reshape(1)
    for k, p in model.named_parameters():
        out["grad." + k] = p.grad
    return {k: t.detach().float().contiguous() if t.is_floating_point() else t for k, t in out.items()}


def main(out):
    for name in MODELS:
        folder = pathlib.Path(out) / name
        folder.mkdir(parents=True, exist_ok=True)
        model, g = build(folder, name)
        tensors = expected(model, g)
        save_file(tensors, folder / "expected.safetensors")
        print(f"{name}: loss {tensors['loss'].item():.6f}, window {getattr(model.config, 'sliding_window', None)}, "
              f"rope {getattr(model.config, 'rope_parameters', None)}")


if __name__ == "__main__":
    main(sys.argv[1])
