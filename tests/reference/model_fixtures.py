"""model_fixtures.py OUT [NAME ...] - writes the fixtures of tests/model/test_parity.c with transformers and torch
autograd.

The models are tiny, with random weights, one per family and feature. The weights are float32; all computations with
them are in float64. Hugging Face computes some layers (RMSNorm) in float32 whatever the model's dtype; these are
replaced by the same formula in float64. The rotation angles stay float32, because they are part of the definition.
Needs torch, transformers, safetensors; no network.

OUT/<name>/ has config.json, model.safetensors, and expected.safetensors with:
  ids (tokens,) lengths (n,) prompts (n,)    the sequences, one after another (none contains the padding id, because
                                             Hugging Face reads a score at the last token that is not padding)
  logits (tokens,v)  embedding (n,c)         causal models; embedding: mean last hidden state of the completion
  loss (1,)                                  mean negative log-likelihood of all completion tokens
  score (n,labels)  dscore (n,labels)        classifiers; their loss is sum(score * dscore)
  grad.<parameter>                           gradient of the loss"""
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
TINY = dict(SMALL, vocab_size=51, hidden_size=28, intermediate_size=44, num_attention_heads=4, num_key_value_heads=2,
            head_dim=8)
LABELS = dict(id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0})
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 8.0, "beta_slow": 0.5,
        "mscale": 0.7, "mscale_all_dim": 0.4, "truncate": False}
LONG = {"type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.7, 2.0, 2.5], "long_factor": [1.5, 2.0, 3.5, 5.0, 9.0, 17.0]}
PHI3 = dict(TINY, head_dim=16, num_attention_heads=3, num_key_value_heads=1, hidden_size=48, partial_rotary_factor=0.75,
            rope_scaling=LONG, tie_word_embeddings=False)
GEMMA = dict({k: v for k, v in TINY.items() if k != "hidden_act"}, hidden_activation="gelu_pytorch_tanh",
             query_pre_attn_scalar=11)
GPT2 = dict(vocab_size=51, n_embd=24, n_layer=2, n_head=3, n_positions=64, layer_norm_epsilon=1e-5,
            bos_token_id=1, eos_token_id=2, pad_token_id=0)
NEOX = dict(vocab_size=51, hidden_size=24, intermediate_size=44, num_hidden_layers=2, num_attention_heads=3,
            max_position_embeddings=128, layer_norm_eps=1e-5, rotary_pct=0.25, hidden_act="gelu",
            initializer_range=0.02, bos_token_id=1, eos_token_id=2, pad_token_id=0)
OLMO3 = dict(TINY, sliding_window=9, tie_word_embeddings=False)
STABLELM = dict({k: v for k, v in SMALL.items() if k != "rms_norm_eps"}, hidden_size=64, layer_norm_eps=1e-5)
STARCODER2 = dict({k: v for k, v in TINY.items() if k not in ("rms_norm_eps", "hidden_act")}, norm_epsilon=1e-5)
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
    "llama_rope_yarn": ("llama", "LlamaForCausalLM", dict(TINY, rope_scaling=YARN, tie_word_embeddings=True)),
    "llama_rope_dynamic": ("llama", "LlamaForCausalLM", dict(TINY, rope_scaling={"type": "dynamic", "factor": 2.0},
                                                             tie_word_embeddings=True)),
    "llama_rope_longrope": ("llama", "LlamaForCausalLM",
                            dict(TINY, rope_scaling=dict(LONG, short_factor=[1.0, 1.2, 1.5, 2.0], factor=6.0,
                                                         long_factor=[1.5, 3.0, 6.0, 9.0]),
                                 original_max_position_embeddings=32, tie_word_embeddings=True)),
    "qwen2_mixed": ("qwen2", "Qwen2ForCausalLM", dict(TINY, use_sliding_window=True, sliding_window=9, max_window_layers=1,
                                                      tie_word_embeddings=True)),
    "ministral_mixed": ("ministral", "MinistralForCausalLM",
                        dict(TINY, sliding_window=9, layer_types=["sliding_attention", "full_attention"],
                             tie_word_embeddings=False)),
    "ministral_score": ("ministral", "MinistralForSequenceClassification", dict(TINY, sliding_window=5, **LABELS)),
    "olmo2": ("olmo2", "Olmo2ForCausalLM", dict(TINY, attention_bias=True, tie_word_embeddings=False)),
    "olmo2_score": ("olmo2", "Olmo2ForSequenceClassification", dict(TINY, **LABELS)),
    "smollm3": ("smollm3", "SmolLM3ForCausalLM",
                dict(TINY, num_hidden_layers=3, no_rope_layers=[1, 0, 1], use_sliding_window=True, sliding_window=9,
                     tie_word_embeddings=True)),
    "smollm3_score": ("smollm3", "SmolLM3ForSequenceClassification",
                      dict(TINY, no_rope_layer_interval=2, mlp_bias=True, **LABELS)),
    "granite": ("granite", "GraniteForCausalLM",
                dict(TINY, attention_multiplier=0.21, embedding_multiplier=3.5, residual_multiplier=0.31,
                     logits_scaling=1.7, tie_word_embeddings=True)),
    "phi3_long": ("phi3", "Phi3ForCausalLM", dict(PHI3, original_max_position_embeddings=32)),
    "phi3_short": ("phi3", "Phi3ForCausalLM", dict(PHI3, original_max_position_embeddings=64, sliding_window=9)),
    "gemma2": ("gemma2", "Gemma2ForCausalLM", dict(GEMMA, sliding_window=9, attn_logit_softcapping=1.3,
                                                   final_logit_softcapping=2.1, attention_bias=True)),
    "gemma2_score": ("gemma2", "Gemma2ForSequenceClassification", dict(GEMMA, sliding_window=9, **LABELS)),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM",
               dict(GEMMA, num_hidden_layers=3, sliding_window=9, sliding_window_pattern=2, rope_theta=5000.0,
                    rope_scaling={"rope_type": "linear", "factor": 2.0}, rope_local_base_freq=300.0,
                    final_logit_softcapping=2.5)),
    "gemma3_score": ("gemma3_text", "Gemma3TextForSequenceClassification", dict(GEMMA, sliding_window=9, **LABELS)),
    "gpt2": ("gpt2", "GPT2LMHeadModel", dict(GPT2, n_inner=44)),
    "gpt2_layers": ("gpt2", "GPT2LMHeadModel",
                    dict(GPT2, n_layer=2, scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True,
                         activation_function="gelu", tie_word_embeddings=False)),
    "gpt2_score": ("gpt2", "GPT2ForSequenceClassification", dict(GPT2, **LABELS)),
    "gpt_neox": ("gpt_neox", "GPTNeoXForCausalLM", dict(NEOX)),
    "gpt_neox_serial": ("gpt_neox", "GPTNeoXForCausalLM",
                        dict(NEOX, hidden_size=32, num_attention_heads=2, use_parallel_residual=False, rotary_pct=0.75,
                             rotary_emb_base=500, attention_bias=False, hidden_act="gelu_new", tie_word_embeddings=True)),
    "gpt_neox_score": ("gpt_neox", "GPTNeoXForSequenceClassification", dict(NEOX, **LABELS)),
    "mistral_score": ("mistral", "MistralForSequenceClassification", dict(TINY, sliding_window=9, **LABELS)),
    "qwen3_score": ("qwen3", "Qwen3ForSequenceClassification", dict(TINY, **LABELS)),
    "gemma": ("gemma", "GemmaForCausalLM", dict(TINY, hidden_act="gelu", hidden_activation="gelu_pytorch_tanh",
                                                attention_bias=True)),
    "gemma_score": ("gemma", "GemmaForSequenceClassification", dict(TINY, hidden_act="gelu_pytorch_tanh", **LABELS)),
    # rotation [0] is yarn with base 10000, rotation [1] has the class default, base 500000
    "olmo3": ("olmo3", "Olmo3ForCausalLM",
              dict(OLMO3, num_hidden_layers=4, rope_scaling={k: v for k, v in YARN.items() if not k.startswith("mscale")})),
    "olmo3_score": ("olmo3", "Olmo3ForSequenceClassification",
                    dict(OLMO3, layer_types=["full_attention", "sliding_attention"], attention_bias=True,
                         rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 7000.0},
                                          "sliding_attention": {"rope_type": "default", "rope_theta": 300.0}}, **LABELS)),
    "stablelm": ("stablelm", "StableLmForCausalLM", dict(STABLELM, use_qkv_bias=True, tie_word_embeddings=False)),
    "stablelm_score": ("stablelm", "StableLmForSequenceClassification",
                       dict(STABLELM, hidden_size=48, num_attention_heads=3, num_key_value_heads=1, partial_rotary_factor=0.5,
                            **LABELS)),
    "starcoder2": ("starcoder2", "Starcoder2ForCausalLM", dict(STARCODER2, sliding_window=9)),
    "starcoder2_score": ("starcoder2", "Starcoder2ForSequenceClassification",
                         dict(STARCODER2, use_bias=False, hidden_act="gelu", **LABELS)),
    "seed_oss": ("seed_oss", "SeedOssForCausalLM", dict(TINY, tie_word_embeddings=False)),
    "seed_oss_score": ("seed_oss", "SeedOssForSequenceClassification",
                       dict(TINY, attention_bias=False, attention_out_bias=True, mlp_bias=True, **LABELS)),
    "exaone4": ("exaone4", "Exaone4ForCausalLM",
                dict(TINY, num_hidden_layers=3, head_dim=16, sliding_window=9, sliding_window_pattern=2, tie_word_embeddings=True)),
    "exaone4_score": ("exaone4", "Exaone4ForSequenceClassification",
                      dict(TINY, sliding_window=None, layer_types=["full_attention"] * 2, **LABELS)),
    "helium": ("helium", "HeliumForCausalLM", dict(SMALL, head_dim=8, attention_bias=True)),
    "helium_score": ("helium", "HeliumForSequenceClassification", dict(SMALL, head_dim=8, mlp_bias=True, **LABELS)),
    "ernie4_5": ("ernie4_5", "Ernie4_5ForCausalLM", dict(TINY, use_bias=True, tie_word_embeddings=True)),
    "glm": ("glm", "GlmForCausalLM", dict(TINY, head_dim=16, partial_rotary_factor=0.75, tie_word_embeddings=True)),
    "glm_score": ("glm", "GlmForSequenceClassification", dict(TINY, attention_bias=False, **LABELS)),
    "glm4": ("glm4", "Glm4ForCausalLM", dict(TINY, tie_word_embeddings=False)),
    "glm4_score": ("glm4", "Glm4ForSequenceClassification", dict(TINY, head_dim=16, attention_bias=False, **LABELS)),
    "phi3_score": ("phi3", "Phi3ForSequenceClassification", dict(TINY, **LABELS)),
}
LENGTHS, PROMPTS = [7, 45, 1, 33], [3, 12, 1, 32]


def norm64(module):
    def forward(x):
        gemma = hasattr(module, "eps")
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + (module.eps if gemma else module.variance_epsilon))
        return (1 + module.weight if gemma else module.weight) * x
    return forward


def softmax64(x, dim=-1, dtype=None):
    """Replaces the softmax of eager attention, which transformers computes in float32 for every
    dtype, by a softmax in the dtype of x, float64."""
    return torch.softmax(x, dim)


def one_rope(model):
    """Makes longrope use the factors for the longest sequence of the batch for every sequence,
    as plumb does."""
    rope = getattr(model.base_model, "rotary_emb", None)
    if rope is not None and rope.rope_type == "longrope":
        rope(torch.zeros(1, dtype=torch.float64), torch.tensor([[max(LENGTHS) - 1]]))
        rope.original_inv_freq = rope.long_inv_freq = rope.inv_freq.clone()


def head(model, hidden):
    """Returns the logits for the last hidden states."""
    logits, cap = model.get_output_embeddings()(hidden), getattr(model.config, "final_logit_softcapping", None)
    if model.config.model_type == "granite":
        return logits / model.config.logits_scaling
    return torch.tanh(logits / cap) * cap if cap else logits


def in_files(key, config):
    """Returns the name of a parameter in the files. transformers 5 reads both names of GPT-NeoX's
    head."""
    return "embed_out.weight" if config.model_type == "gpt_neox" and key == "lm_head.weight" else key


def attention_of(model_type):
    """Returns the attention implementation: eager for models with a soft cap, which sdpa does
    not support."""
    return "eager" if model_type == "gemma2" else "sdpa"


def build(folder, name):
    kind, architecture, fields = MODELS[name]
    config = dict({"architectures": [architecture], "model_type": kind, "torch_dtype": "float32"}, **fields)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    cls = AutoModelForSequenceClassification if "Classification" in architecture else AutoModelForCausalLM
    model = cls.from_config(AutoConfig.from_pretrained(folder), attn_implementation=attention_of(kind),
                            dtype=torch.float32)
    g = torch.Generator().manual_seed(sum(map(ord, name)))
    with torch.no_grad():
        for key, p in model.named_parameters():
            r = torch.randn(p.shape, generator=g)
            p.copy_(1 + 0.2 * r if ("norm" in key or ".ln_" in key) and key.endswith("weight") else 0.15 * r)
    save_file({in_files(k, model.config): p.detach().clone() for k, p in model.named_parameters()}, folder / "model.safetensors",
              metadata={"format": "pt"})
    model = model.double().eval()
    for m in model.modules():
        if type(m).__name__.endswith("RMSNorm"):
            m.forward = norm64(m)
    one_rope(model)
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
        hidden = [model.base_model(i[None]).last_hidden_state[0] for i in ids]
        logits = [head(model, x) for x in hidden]
        assert torch.equal(logits[0], model(ids[0][None]).logits[0])
        picked = [torch.log_softmax(z[p - 1:-1], -1)[torch.arange(len(i) - p), i[p:]]
                  for z, i, p in zip(logits, ids, PROMPTS)]
        loss = -torch.cat(picked).mean()
        out["logits"] = torch.cat(logits)
        out["embedding"] = torch.stack([x[p:].mean(0) if len(x) > p else 0 * x[0] for x, p in zip(hidden, PROMPTS)])
    loss.backward()
    out["loss"] = loss.reshape(1)
    for k, p in model.named_parameters():
        out["grad." + in_files(k, model.config)] = p.grad
    return {k: t.detach().float().contiguous() if t.is_floating_point() else t for k, t in out.items()}


def main(out, *names):
    torch.nn.functional.softmax = softmax64
    for name in names or MODELS:
        folder = pathlib.Path(out) / name
        folder.mkdir(parents=True, exist_ok=True)
        model, g = build(folder, name)
        tensors = expected(model, g)
        save_file(tensors, folder / "expected.safetensors")
        print(f"{name}: loss {tensors['loss'].item():.6f}, window {getattr(model.config, 'sliding_window', None)}, "
              f"rope {getattr(model.config, 'rope_parameters', None)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
