#!/usr/bin/env python3
"""plan_8b.py PLUMB [--out FOLDER/NAME] - what `plumb plan` says about configs/8b: memory, largest
micro-batch and slots, and estimated time of every file, trained in full and with LoRA, on 1, 8 and 64
GPUs of 80 and 141 GB. Writes NAME.json and NAME.md. It needs no GPU: the figures are a plan, not a
measurement. The model is the shape of Llama 3 8B, the reward model the same with one score."""
import argparse
import json
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096,
         "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192,
         "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": False,
         "hidden_act": "silu", "bos_token_id": 128000, "eos_token_id": 128001}
WORLDS, MEMORIES = (1, 8, 64), ("80GB", "141GB")
TRAINED = {"full": ["lora.r=0"], "LoRA": ["lora.r=8", "lora.alpha=16", "lora.targets=all-linear"]}
# psle of all weights on 8 GPUs, one micro-batch per rank and step, 128 sequences of 1,024 tokens: each row changes
# one condition
SHARED = ["lora.r=0", "kl_to_start=false", "frozen=sharded", "train.shard=gradients"]
CONDITIONS = {"as above": [], "the reward model resident": ["frozen=resident"],
              "with the reference `init`, in shares": ["kl_to_start=true"],
              "whole gradients and masters on every rank": ["train.shard=optimizer"],
              "moments in host memory": ["offload_moments=true"], "256 sequences": ["generate.slots=256"]}
PROMPT, PROMPTS, PER_RANK = 512, 2048, 8  # longest prompt, prompts of an iteration, prompts of a step and rank


def folders(where):
    """Stand-ins for what the files of configs/8b read: two folders with a config.json."""
    for name, kind in (("llama-3-8b-sft", "LlamaForCausalLM"), ("reward-8b", "LlamaForSequenceClassification")):
        (where / name).mkdir()
        (where / name / "config.json").write_text(json.dumps({**MODEL, "architectures": [kind], "num_labels": 1}))
    return where / "llama-3-8b-sft", where / "reward-8b"


def plan(plumb, config, where, model, reward, world, memory, more):
    source = config.read_text()
    stages = "\nstages:" in source
    command = "run" if stages else "prefer" if config.stem.startswith("prefer") else "align"
    out = where / f"{config.stem}-{world}-{memory}-{'-'.join(more)}.json"
    args = [plumb, "plan", command, config, f"model={model}", f"plan.world_size={world}", f"plan.memory={memory}",
            f"output={out}", f"global_batch_size={PER_RANK * max(world, 8)}", *more]
    args += [f"data.max_tokens={PROMPT + 512}"] if command == "prefer" else [
        f"data.max_prompt_tokens={PROMPT}", f"prompts_per_iteration={PROMPTS}"]
    args += [f"data.max_tokens={PROMPT + 512}"] if stages else []
    args += [f"reward.model={reward}"] if "reward-8b" in source else []
    args += [f"method.{key}={model}" for key in ("embedder", "judge") if f"  {key}: checkpoints" in source]
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True)
    if done.returncode not in (0, 4):
        raise SystemExit(f"{' '.join(map(str, args))}\n{done.stdout}{done.stderr}")
    p = json.loads(out.read_text())
    last = p[-1] if stages else p
    if stages: # the stage that needs most
        p = max(p, key=lambda stage: stage["bytes_with_host"])
    return {"config": config.stem, "command": command, "world_size": world, "memory": memory,
            "needs": p["bytes_with_host"], "fits": p["fits"], "frozen": p.get("frozen"), "shard": p["shard"],
            "largest_micro_batch_size": p["largest_micro_batch_size"],
            "largest_slots": p.get("largest_slots"), "unit": last["estimate"]["unit"],
            "seconds": last["estimate"]["seconds"], "gpu_hours": last["estimate"]["gpu_hours"],
            "units": last["estimate"]["units"], "rates": last["estimate"]["rates"]}


def conditions(plumb, where, model, reward):
    psle = ROOT / "configs/8b/psle.yaml"
    return {text: plan(plumb, psle, where, model, reward, 8, "80GB", [*SHARED, *more])["needs"]
            for text, more in CONDITIONS.items()}


def cell(rows, config, trained, world, memory):
    r = next(r for r in rows if (r["config"], r["trained"], r["world_size"], r["memory"]) ==
             (config, trained, world, memory))
    frozen = f", {r['frozen']}" if r.get("frozen") else ""
    text = f"{r['needs'] / 1e9:.1f}{frozen}{', shards' if r['shard'] == 'gradients' else ''}"
    if r["fits"]:
        slots = f", slots {r['largest_slots']}" if r["largest_slots"] else ""
        return f"**{text}** (micro-batch {r['largest_micro_batch_size']}{slots})"
    return text + (f" (with micro-batch {r['largest_micro_batch_size']})" if r["largest_micro_batch_size"] else "")


def table(rows, needs, plumb_version):
    configs = sorted({r["config"] for r in rows})
    text = ["# Plan of configs/8b", "", "    python3 benchmarks/plan_8b.py build/plumb", "",
            f"**A plan, not a measurement**, by `plumb plan` of {plumb_version}: none of these runs has been "
            "started, and no figure was taken on a GPU.", "",
            "- Model: the shape of Llama 3 8B (8,030,261,248 parameters), and a reward model of that shape, in bfloat16.",
            f"- Prompts of {PROMPT} tokens, answers as long as each file allows (pairs: {PROMPT + 512} tokens); an "
            f"iteration of align has {PROMPTS:,} prompts.",
            "- spa is a file of stages: memory is that of the stage that needs most, time that of its last stage.",
            "- The files without eval and `*_lora`. Changed in them: the models, the longest prompt or pair, the prompts "
            f"per iteration, `lora.r` (full: 0) and `global_batch_size`: {PER_RANK} prompts or pairs per rank and step "
            "on 64 GPUs, 64 on 1 and 8. LoRA: r 8, alpha 16, all-linear.",
            "- A cell: GB that the rank with the largest need takes, with the margin; bold: it fits. In brackets the "
            "largest `train.micro_batch_size` and `generate.slots` that fit, each alone; `with micro-batch N` behind a cell "
            "that is not bold: it fits with that micro-batch.",
            "- resident, sharded, offload: where the layers of frozen models are (`frozen: auto`); shards: a rank has shards "
            "of gradients and float32 masters, too (`train.shard: auto` takes `gradients`).",
            "- 80 GB and 141 GB are what a rank may take (`plan.memory`). Such GPUs have 85 and 150 GB; CUDA's context and "
            "NCCL's buffers are beside the plan.", "", "## Memory"]
    for trained in TRAINED:
        text += ["", f"### {trained}", "", "| file | " + " | ".join(f"{w} x {m}" for m in MEMORIES for w in WORLDS) + " |",
                 "|---|" + "---|" * (len(WORLDS) * len(MEMORIES))]
        text += [f"| {c} | " + " | ".join(cell(rows, c, trained, w, m) for m in MEMORIES for w in WORLDS) + " |"
                 for c in configs]
    text += ["", "### psle of all weights on 8 GPUs", "", "The reward model of 8 B in shares (`frozen: sharded`), no reference "
             "(`kl_to_start: false`), shards of gradients and masters (`train.shard: gradients`), one micro-batch per rank and "
             "step, 128 sequences of 1,024 tokens at a time. GB of a rank, with the margin; each row changes one condition.", "",
             "| | GB |", "|---|---|"] + [f"| {k} | {v / 1e9:.1f} |" for k, v in needs.items()]
    rates = rows[0]["rates"]
    wide = next(r["rates"] for r in rows if r["memory"] == MEMORIES[1])
    text += ["", "## Estimated time", "",
             f"Seconds per iteration (align) or step (prefer), estimated from {rates['flops']:.3g} FLOP/s, "
             f"{rates['bandwidth']:.3g} bytes/s from memory (141 GB: {wide['bandwidth']:.3g}), {rates['host_link']:.3g} "
             f"bytes/s inside a host of 8 and {rates['link']:.3g} between hosts: NVIDIA's published peaks times assumed "
             "shares (`plumb help plan`). In brackets the GPU-hours of the run (prefer: of one step; spa: of its last "
             "stage). Whether it fits is not asked here. pro and selm have micro-batches of 14 and 16: with 8 prompts per "
             "rank, 5 and 4 of 8 ranks have one, so their times are too long (the files have 112 and 128 prompts per "
             "step).", "",
             "| file | " + " | ".join(f"{t}, {w} x {m}" for t in TRAINED for m in MEMORIES for w in WORLDS) + " |",
             "|---|" + "---|" * (len(WORLDS) * len(MEMORIES) * len(TRAINED))]
    key = {(r["config"], r["trained"], r["world_size"], r["memory"]): r for r in rows}
    text += [f"| {c} | " + " | ".join(f"{key[c, t, w, m]['seconds']:.3g} ({key[c, t, w, m]['gpu_hours']:.3g})"
                                      for t in TRAINED for m in MEMORIES for w in WORLDS) + " |" for c in configs]
    return "\n".join(text) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plumb", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/plan-8b")
    parser.add_argument("--only", nargs="*", help="names of files of configs/8b")
    parser.add_argument("--jobs", type=int, default=2)
    a = parser.parse_args()
    configs = [c for c in sorted((ROOT / "configs/8b").glob("*.yaml"))
               if c.stem != "eval" and not c.stem.endswith("_lora") and (not a.only or c.stem in a.only)]
    version = subprocess.run([a.plumb, "version"], capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as where:
        where = Path(where)
        model, reward = folders(where)
        jobs = [(c, t, w, m) for c in configs for t in TRAINED for w in WORLDS for m in MEMORIES]
        with ThreadPoolExecutor(a.jobs) as pool:
            rows = list(pool.map(lambda j: {"trained": j[1], **plan(a.plumb, j[0], where, model, reward, j[2], j[3],
                                                                    TRAINED[j[1]])}, jobs))
        needs = conditions(a.plumb, where, model, reward)
    Path(f"{a.out}.json").write_text(json.dumps(rows, indent=1) + "\n")
    Path(f"{a.out}.md").write_text(table(rows, needs, version))


if __name__ == "__main__":
    main()
