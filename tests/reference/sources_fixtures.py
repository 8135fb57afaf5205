#!/usr/bin/env python3
"""sources_fixtures.py OUT - writes OUT/config.json: what transformers makes of config.json files in
which two fields give one setting. Needs torch and transformers (written with 5.24).

Each case: the fields that change in a small config.json, generation_config.json or null, and what
the model that transformers builds from them uses: rotary description, layers with a window and its
size, end tokens of generate(); or the error with which it refuses."""
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
STOPS = [({}, None), ({"eos_token_id": [5, 6]}, None), ({"eos_token_id": 5}, {"eos_token_id": 7}),
         ({"eos_token_id": 5}, {"eos_token_id": [5, 7]}), ({"eos_token_id": 5}, {"do_sample": True})]


def used(folder):
    """What the model that transformers builds from the folder uses."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        transformers.AutoConfig.from_pretrained(folder), dtype=torch.float32)
    with torch.no_grad():
        model(torch.arange(3, 23)[None]) # refuses a window without a size
    c = model.config
    types = getattr(c, "layer_types", None)
    window = getattr(c, "sliding_window", None)
    if c.model_type == "llama":
        windowed = 0
    elif types is None:
        windowed = c.num_hidden_layers if window else 0
    else:
        windowed = types.count("sliding_attention")
    rope = {k: c.rope_parameters.get(k) for k in
            ("rope_type", "rope_theta", "factor", "original_max_position_embeddings")}
    return {"rope": rope, "windowed": windowed, "window": window if windowed else 0}


def case(change, generation=None, family="llama"):
    names = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
    whole = {**BASE, "model_type": family, "architectures": [names[family] + "ForCausalLM"],
             **change}
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "config.json").write_text(json.dumps(whole))
        if generation is not None:
            pathlib.Path(folder, "generation_config.json").write_text(json.dumps(generation))
        try:
            out = used(folder)
        except Exception as e: # the class says enough
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


def main(out):
    cases = [case(c) for c in ROPE]
    cases += [case(c, family=f) for f in ("llama", "mistral", "qwen2", "qwen3") for c in WINDOW]
    cases += [case(c, g) for c, g in STOPS]
    text = ",\n".join(json.dumps(c) for c in cases)
    pathlib.Path(out, "config.json").write_text(
        f'{{"transformers": "{transformers.__version__}", "cases": [\n{text}\n]}}\n')


if __name__ == "__main__":
    main(sys.argv[1])
