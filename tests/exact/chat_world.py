"""chat_world.py - the generated data set as records of messages, and models of other families with a chat template, for the
jobs "messages" of exact.py. Needs the standard library only."""
import json
import shutil

TEMPLATE = """{{ bos_token }}{% for m in messages %}
{%- if m.role == 'system' %}rule: {{ m.content }}
{% elif m.role == 'user' %}ask: {{ m.content }}
{% else %}reply: {% generation %}{{ m.content | trim }}{{ eos_token }}{% endgeneration %}
{% endif %}
{%- endfor %}{% if add_generation_prompt %}reply:{% endif %}"""

SHARED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings",
          "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range")
# For each family, the members of config.json in addition to the sizes (SHARED) of the base model.
FAMILIES = {
    # This model has a sliding window that most records exceed, a soft cap of the logits, norms of q
    # and k, and two rotary embeddings.
    "gemma3": {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "num_key_value_heads": 2, "head_dim": 16,
               "query_pre_attn_scalar": 20, "sliding_window": 12, "sliding_window_pattern": 2, "final_logit_softcapping": 30.0},
    # This model has LayerNorm, biases, a parallel residual, and q, k and v in one tensor.
    "gpt_neox": {"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "rotary_pct": 0.25, "hidden_act": "gelu"},
}


def talk(prompt, answer=None):
    """Returns the messages for a text prompt of lines "rule: ..", "ask: .." and a last line
    "reply:". Appends the answer if given."""
    out = []
    for line in prompt.splitlines():
        kind, _, text = line.partition(":")
        if kind in ("rule", "ask"):
            out.append({"role": "system" if kind == "rule" else "user", "content": text.strip()})
    return out if answer is None else [*out, {"role": "assistant", "content": answer}]


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records))


def write_data(world, out):
    """Writes the data files as messages. Two SFT records become one conversation of two turns;
    every third record stays alone."""
    sft, at, talks = rows(world / "sft.jsonl"), 0, []
    while at + 1 < len(sft):
        n = 1 if at % 3 == 0 else 2
        parts = [talk(r["prompt"], r["completion"]) for r in sft[at:at + n]]
        talks.append({"messages": parts[0] + [m for p in parts[1:] for m in p if m["role"] != "system"]})
        at += n
    write(out / "sft.jsonl", talks)
    write(out / "prompts.jsonl", [{"id": r["id"], "prompt": talk(r["prompt"])} for r in rows(world / "prompts.jsonl")])
    write(out / "pairs.jsonl", [{"prompt": talk(r["prompt"]), **{k: [{"role": "assistant", "content": r[k]}]
                                                                for k in ("chosen", "rejected")}}
                                for r in rows(world / "pairs.jsonl")])


def make(bench, family):
    """Returns (folder of a family's untrained model and the records, folder of this model after a few steps of
    sft)."""
    out = bench.folder / f"chat-{family}"
    base = bench.folder / f"chat-{family}-base"
    if not out.exists():
        out.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            shutil.copy(bench.world / name, out / name)
        config = json.loads((bench.world / "config.json").read_text())
        text = json.dumps({**{k: config[k] for k in SHARED}, **FAMILIES[family], "torch_dtype": "float32"}, indent=1)
        (out / "config.json").write_text(text)
        (out / "chat_template.jinja").write_text(TEMPLATE)
        write_data(bench.world, out)
        bench.good(*bench.sft_args(base, f"model={out}", f"data.train={out}/sft.jsonl"))
    return out, base / "latest"
