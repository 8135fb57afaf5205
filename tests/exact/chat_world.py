"""chat_world.py - the small world as records of messages, with models of other families that have a chat template: what the rows
"messages" of exact.py run on. Standard library only."""
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
# Per family what config.json has besides the sizes of the world's model.
FAMILIES = {
    # A window that most records exceed, a soft cap of the logits, norms of q and k, two rotary
    # embeddings.
    "gemma3": {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "num_key_value_heads": 2, "head_dim": 16,
               "query_pre_attn_scalar": 20, "sliding_window": 12, "sliding_window_pattern": 2, "final_logit_softcapping": 30.0},
    # LayerNorm, biases, a parallel residual, q, k and v in one tensor.
    "gpt_neox": {"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "rotary_pct": 0.25, "hidden_act": "gelu"},
}


def talk(prompt, answer=None):
    """The messages of a text prompt: lines "rule: ..", "ask: ..", and "reply:" at the end."""
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
    """Two records of the world make one conversation of two turns; every third stays alone."""
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
    """The folder of a family's untrained model with the records, and the model after a few steps of sft on them."""
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
