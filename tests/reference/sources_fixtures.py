#!/usr/bin/env python3
"""sources_fixtures.py OUT - writes OUT/config.json and OUT/tokenizer.json: what transformers reads from
model folders in which two fields, or two files, give the same setting. Needs torch and transformers
(made with 5.24).

Each case in config.json has the fields that differ from a small base config.json, a generation_config.json
or null, and what the model that transformers builds from these files uses: the description of the
rotation, the layers with an attention window and its size, and the end tokens of generate(); or the error
with which transformers refuses the files.
Each case in tokenizer.json has the contents of the other tokenizer files, the ids of some texts (with the
tokens that the post-processor adds), the text decoded without special tokens, and the tokens with a role
(begin, end, padding)."""
import json
import pathlib
import sys
import tempfile

import torch
import transformers
from transformers import AutoModelForCausalLM

transformers.logging.set_verbosity_error()
BASE = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 64,
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 128, "eos_token_id": 2}
LINEAR = {"type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
FULL, SLIDING = ["full_attention"] * 2, ["sliding_attention"] * 2
ROPE = [
    {"rope_scaling": LINEAR},
    {"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    {"rope_scaling": LINEAR, "rope_theta": 500.0,
     "rope_parameters": {"rope_type": "default", "rope_theta": 700.0}},
    {"rope_scaling": {"rope_type": "default"}, "rope_theta": 500.0,
     "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}},
    {"rope_scaling": {}, "rope_parameters": {"rope_type": "linear", "factor": 4.0,
                                             "rope_theta": 500.0}},
    {"rope_scaling": None, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    {"rope_theta": 700.0, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    {"rope_theta": 700.0, "rope_parameters": {"rope_type": "default"}},
    {"rope_parameters": {"rope_type": "default", "type": "linear", "factor": 4.0}},
    {"rope_scaling": {"rope_type": "linear", "type": "default", "factor": 4.0}},
    {"rope_parameters": {**LLAMA3, "rope_theta": 500.0}},
    {"rope_parameters": {**LLAMA3, "rope_theta": 500.0, "original_max_position_embeddings": 64}},
    {"rope_parameters": {**LLAMA3, "rope_theta": 500.0, "original_max_position_embeddings": 64},
     "original_max_position_embeddings": 32},
    {"rope_scaling": LLAMA3, "original_max_position_embeddings": 32, "rope_theta": 500.0},
]
WINDOW = [
    {}, {"sliding_window": 7}, {"sliding_window": None},
    {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 0},
    {"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0},
    {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2},
    {"layer_types": SLIDING, "sliding_window": 7},
    {"layer_types": SLIDING, "sliding_window": 7, "use_sliding_window": False},
    {"layer_types": SLIDING, "sliding_window": 7, "use_sliding_window": True},
    {"layer_types": SLIDING, "sliding_window": 7, "use_sliding_window": True,
     "max_window_layers": 28},
    {"layer_types": SLIDING, "sliding_window": None, "use_sliding_window": True},
    {"layer_types": FULL, "sliding_window": 7, "use_sliding_window": True, "max_window_layers": 0},
    {"layer_types": ["attention"] * 2, "sliding_window": 7},
    {"layer_types": FULL[:1], "sliding_window": 7, "use_sliding_window": True},
    {"layer_types": None, "sliding_window": 7, "use_sliding_window": True, "max_window_layers": 0},
]
NEWER = ("ministral", "olmo2", "smollm3", "granite", "phi3", "gemma2", "gemma3_text")
# the default padding tokens of the classes are larger than this vocabulary
PADDED = {"pad_token_id": 0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
ROPE_NEWER = [{"rope_theta": 500.0}, {"rope_scaling": LINEAR}, {"rope_scaling": YARN},
              {"rope_scaling": LONGROPE, "original_max_position_embeddings": 32},
              {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}]
OWN = [("gemma3_text", {"rope_theta": 500.0}), ("gemma3_text", {"rope_scaling": YARN}),
       ("smollm3", {"no_rope_layers": [0, 1], "use_sliding_window": True, "sliding_window": 7}),
       ("smollm3", {"no_rope_layers": [1, 1], "use_sliding_window": True, "sliding_window": 7}),
       ("smollm3", {"no_rope_layer_interval": 1, "use_sliding_window": True, "sliding_window": 7}),
       ("gemma3_text", {"sliding_window": 7, "sliding_window_pattern": 2}),
       ("gemma3_text", {"sliding_window": 7, "sliding_window_pattern": 1}),
       ("gemma3_text", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_theta": 700.0,
                        "rope_local_base_freq": 50.0}),
       ("gemma3_text", {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0},
                                            "sliding_attention": {"rope_theta": 50.0}},
                        "rope_local_base_freq": 60.0}),
       ("gemma3_text", {"rope_parameters": {"full_attention": {"rope_theta": 50.0}}})]
STOPS = [({}, None), ({"eos_token_id": [5, 6]}, None), ({"eos_token_id": 5}, {"eos_token_id": 7}),
         ({"eos_token_id": 5}, {"eos_token_id": [5, 7]}), ({"eos_token_id": 5}, {"do_sample": True})]


def used(folder):
    """Returns the settings that the model uses which transformers builds from the folder."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        transformers.AutoConfig.from_pretrained(folder), dtype=torch.float32)
    with torch.no_grad():
        model(torch.arange(3, 23)[None]) # fails for a window without a size
    c = model.config
    types = getattr(c, "layer_types", None)
    window = getattr(c, "sliding_window", None)
    if c.model_type in ("llama", "olmo2", "granite"):
        windowed = 0
    # the attention masks of this model ignore layer_types
    elif types is None or c.model_type == "phi3":
        windowed = c.num_hidden_layers if window else 0
    else:
        windowed = types.count("sliding_attention")
    rope = c.rope_parameters.get("full_attention", c.rope_parameters)
    rope = {k: rope.get(k) for k in
            ("rope_type", "rope_theta", "factor", "original_max_position_embeddings")}
    if c.model_type == "gemma3_text":
        rope["local_theta"] = c.rope_parameters["sliding_attention"]["rope_theta"]
    return {"rope": rope, "windowed": windowed, "window": window if windowed else 0}


def case(change, generation=None, family="llama"):
    names = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3",
             "ministral": "Ministral", "olmo2": "Olmo2", "smollm3": "SmolLM3", "granite": "Granite",
             "phi3": "Phi3", "gemma2": "Gemma2", "gemma3_text": "Gemma3"}
    whole = {**BASE, "model_type": family, "architectures": [names[family] + "ForCausalLM"],
             **change}
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "config.json").write_text(json.dumps(whole))
        if generation is not None:
            pathlib.Path(folder, "generation_config.json").write_text(json.dumps(generation))
        try:
            out = used(folder)
        except Exception as e: # the class of the error is sufficient
            out = {"raises": type(e).__name__}
        if "raises" not in out:
            try:
                g = transformers.GenerationConfig.from_pretrained(folder)
            except OSError:
                g = transformers.GenerationConfig.from_model_config(
                    transformers.AutoConfig.from_pretrained(folder))
            stops = g.eos_token_id
            out["eos"] = stops if isinstance(stops, list) else [] if stops is None else [stops]
    return {"config": whole, "generation": generation, "transformers": out}


def added(text, ident, **flags):
    """Returns one entry of "added_tokens" of a tokenizer.json."""
    return {"id": ident, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True, **flags}


def entry(text, **flags):
    one = added(text, 0, **flags)
    del one["id"]
    return one


LETTERS = ["<s>", "</s>", "a", "b", "c", "<", ">", "|", "/", " ", "x", "y", "ab", "[", "]"]
TEMPLATE = {"type": "TemplateProcessing", "pair": [],
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}}
TOKENIZER = {"version": "1.0", "truncation": None, "padding": None,
             "added_tokens": [added("<s>", 0), added("</s>", 1)], "normalizer": None,
             "pre_tokenizer": None, "post_processor": TEMPLATE, "decoder": {"type": "Fuse"},
             "model": {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False,
                       "continuing_subword_prefix": None, "end_of_word_suffix": None,
                       "byte_fallback": False, "ignore_merges": False,
                       "vocab": {t: i for i, t in enumerate(LETTERS)}, "merges": ["a b"]}}
ROLES = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
TEXTS = ["ab", "a <|x|> b", "a<|x|><|y|>b", "a </s> b", "<s>ab</s>", "a[x] b"]
X = "<|x|>"
# (tokenizer_config.json, special_tokens_map.json, added_tokens.json, changed fields of
# tokenizer.json)
BESIDE = [
    ({}, None, None, {}),
    ({"add_bos_token": False, "add_eos_token": True}, None, None, {}),
    ({"add_bos_token": True, "add_eos_token": True}, None, None, {"post_processor": None}),
    ({"added_tokens_decoder": {"15": entry(X)}}, None, None, {}),
    ({"added_tokens_decoder": {"20": entry(X), "3": entry("<|y|>")}}, None, None, {}),
    ({"added_tokens_decoder": {"16": entry(X), "15": entry("<|y|>", special=False)}}, None, None, {}),
    ({"added_tokens_decoder": {"1": entry("</s>", lstrip=True, rstrip=True)}}, None, None, {}),
    ({"added_tokens_decoder": {"15": entry(X, rstrip=True, special=False)}}, None, None, {}),
    ({"added_tokens_decoder": {"15": entry(X)}}, {"eos_token": "<s>"}, {"<|y|>": 16}, {}),
    ({"additional_special_tokens": [X]}, None, None, {}),
    ({"extra_special_tokens": [X]}, None, None, {}),
    ({"extra_special_tokens": {"x_token": X, "y_token": "<|y|>"}}, None, None, {}),
    ({"extra_special_tokens": [X], "additional_special_tokens": ["<|y|>"]}, None, None, {}),
    ({"additional_special_tokens": [{"__type": "AddedToken", **entry(X, rstrip=True)}]}, None, None, {}),
    ({}, {"additional_special_tokens": [X]}, None, {}),
    ({}, {"extra_special_tokens": [{"content": X, "lstrip": True, "normalized": False}]}, None, {}),
    ({"additional_special_tokens": ["<|y|>"]}, {"additional_special_tokens": [X]}, None, {}),
    ({"additional_special_tokens": ["<|y|>"]}, {"extra_special_tokens": [X]}, None, {}),
    ({}, None, {X: 15}, {}),
    ({}, None, {X: 30, "<|y|>": 20}, {}),
    ({}, {"additional_special_tokens": [X]}, {X: 15}, {}),
    ({"additional_special_tokens": [X]}, None, {X: 15}, {}),
    ({}, {"pad_token": X}, {X: 15}, {}),
    ({"added_tokens_decoder": {}}, None, {X: 15}, {}),
    ({}, {"eos_token": "<s>"}, None, {}),
    ({}, {"eos_token": {"content": "</s>", "lstrip": True, "rstrip": True, "normalized": False,
                        "single_word": False}}, None, {}),
    ({"pad_token": "[x]"}, None, None, {}),
    ({"image_token": X, "mask_token": "<|y|>", "sep_token": "[x]"}, None, None, {}),
    ({"eos_token": "ab"}, None, None, {}),
    ({"eos_token": "<|y|>"}, None, None, {}),
    ({}, None, None, {"added_tokens": []}),
    ({}, None, None, {"added_tokens": [added("<s>", 0, special=False), added("</s>", 1, special=False)]}),
    ({"added_tokens_decoder": {"15": entry(X)}}, None, None,
     {"added_tokens": [added("<s>", 0, special=False), added("</s>", 1, special=False)]}),
    ({}, None, None, {"added_tokens": TOKENIZER["added_tokens"] + [added(X, 15, rstrip=True)]}),
    ({"added_tokens_decoder": {"15": entry(X)}}, None, None,
     {"added_tokens": TOKENIZER["added_tokens"] + [added(X, 15, rstrip=True)]}),
]


def words(config, special_map, added_json, change):
    files = {"tokenizer.json": {**TOKENIZER, **change}, "tokenizer_config.json": {**ROLES, **config},
             "special_tokens_map.json": special_map, "added_tokens.json": added_json,
             "config.json": {**BASE, "vocab_size": 40}}
    with tempfile.TemporaryDirectory() as folder:
        for name, value in files.items():
            if value is not None:
                pathlib.Path(folder, name).write_text(json.dumps(value))
        t = transformers.AutoTokenizer.from_pretrained(folder)
        ids = [t(text)["input_ids"] for text in TEXTS]
        out = {"bos": t.bos_token_id, "eos": t.eos_token_id, "ids": ids,
               "shown": [t.decode(i, skip_special_tokens=True) for i in ids]}
    del files["config.json"]
    if not change:
        files["tokenizer.json"] = None
    return {"files": files, "transformers": out}


def write_tokenizers(out):
    text = ",\n".join(json.dumps(words(*b)) for b in BESIDE)
    pathlib.Path(out, "tokenizer.json").write_text(
        f'{{"transformers": "{transformers.__version__}", "texts": {json.dumps(TEXTS)},\n'
        f'"tokenizer": {json.dumps(TOKENIZER)},\n"cases": [\n{text}\n]}}\n')


def main(out):
    write_tokenizers(out)
    cases = [case(c) for c in ROPE]
    cases += [case(c, family=f) for f in ("llama", "mistral", "qwen2", "qwen3") for c in WINDOW]
    cases += [case({**PADDED, **c}, family=f) for f in NEWER
              for c in WINDOW + (ROPE_NEWER if f != "gemma3_text" else [])]
    cases += [case({**PADDED, **c}, family=f) for f, c in OWN]
    cases += [case(c, g) for c, g in STOPS]
    text = ",\n".join(json.dumps(c) for c in cases)
    pathlib.Path(out, "config.json").write_text(
        f'{{"transformers": "{transformers.__version__}", "cases": [\n{text}\n]}}\n')


if __name__ == "__main__":
    main(sys.argv[1])
