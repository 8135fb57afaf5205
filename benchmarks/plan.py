#!/usr/bin/env python3
"""plan.py 8b|70b [PLUMB] [--out FOLDER/NAME] - runs `plumb plan` for models of that size: memory,
largest micro-batch and slots, and estimated time, for training of all weights and of LoRA
adapters, on several numbers of GPUs with 80 and 141 GB. Writes NAME.json and NAME.md. Without
PLUMB it writes only NAME.md, from NAME.json. It needs no GPU: the figures are planned, not
measured.

8b: every file of configs/8b. 70b: SFT, psle and dpo with the options of configs/8b, and for the cases
that do not fit, what other designs would need (plan_beyond.py)."""
import argparse
import json
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import plan_beyond

ROOT = Path(__file__).resolve().parent.parent
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_key_value_heads": 8, "vocab_size": 128256,
         "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": False,
         "hidden_act": "silu", "bos_token_id": 128000, "eos_token_id": 128001}
SHAPES = {"8b": {**LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
                 "num_attention_heads": 32},
          "70b": {**LLAMA, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
                  "num_attention_heads": 64}}
MEMORIES = ("80GB", "141GB")
TRAINED = {"full": ["lora.r=0"], "LoRA": ["lora.r=8", "lora.alpha=16", "lora.targets=all-linear"]}
# The case that CONDITIONS vary: psle that trains all weights on 8 GPUs, with one micro-batch per rank and step and
# 128 sequences of 1,024 tokens. Each entry changes one condition.
SHARED = ["lora.r=0", "kl_to_start=false", "frozen=sharded", "train.shard=gradients"]
CONDITIONS = {"as above": [], "the reward model resident": ["frozen=resident"],
              "with the reference `init`, in shares": ["kl_to_start=true"],
              "whole gradients and masters on every rank": ["train.shard=optimizer"],
              "moments in host memory": ["offload_moments=true"], "256 sequences": ["generate.slots=256"]}
# tokens of the longest prompt, tokens of an answer, prompts (or pairs) of an optimizer step per
# rank
PROMPT, ANSWER, PER_RANK = 512, 512, 8


@dataclass
class Job:
    """A command to plan. source: its configuration file or None. reward: size of its reward model or
    None. more: further options."""
    name: str
    command: str
    source: Path | None = None
    reward: str | None = None
    more: list = field(default_factory=list)

    @property
    def text(self):
        return self.source.read_text() if self.source else ""


def jobs_8b(only):
    sources = [c for c in sorted((ROOT / "configs/8b").glob("*.yaml"))
               if c.stem != "eval" and not c.stem.endswith("_lora") and (not only or c.stem in only)]
    return [Job(s.stem, "run" if "\nstages:" in s.read_text() else "prefer" if s.stem.startswith("prefer") else "align",
                s, "8b" if "reward-8b" in s.read_text() else None) for s in sources]


def jobs_70b(only):
    eight = ROOT / "configs/8b"
    functions = ["reward.model=", "reward.functions=[{name: length, target: 60}]"]
    like_prefer = ["device=cuda", "dtype=bfloat16", "train.micro_batch_size=8", "train.shard=auto", "train.recompute=true"]
    jobs = [Job("sft", "sft", more=like_prefer),
            Job("dpo of given pairs", "prefer", eight / "prefer_dpo.yaml"),
            Job("dpo of own answers, reward 8 B", "align", eight / "dpo.yaml", "8b"),
            Job("psle, no reward model", "align", eight / "psle.yaml", None, functions),
            Job("psle, reward 8 B", "align", eight / "psle.yaml", "8b"),
            Job("psle, reward 70 B", "align", eight / "psle.yaml", "70b")]
    return [j for j in jobs if not only or j.name in only]


@dataclass
class Page:
    size: str      # size of the policy
    worlds: tuple
    prompts: int   # prompts of an iteration
    jobs: object


PAGES = {"8b": Page("8b", (1, 8, 64), 2048, jobs_8b), "70b": Page("70b", (8, 64, 512), 8192, jobs_70b)}


def folders(where):
    """Makes a folder with only a config.json for each model, as `plumb plan` reads no weights.
    Returns {(kind, size): folder}."""
    made = {}
    for size, shape in SHAPES.items():
        for kind, name in (("policy", "LlamaForCausalLM"), ("reward", "LlamaForSequenceClassification")):
            made[kind, size] = where / f"{kind}-{size}"
            made[kind, size].mkdir()
            (made[kind, size] / "config.json").write_text(json.dumps({**shape, "architectures": [name], "num_labels": 1}))
    return made


def plan(plumb, page, job, where, models, world, memory, more):
    """Returns [p, p], where p is the JSON that `plumb plan` writes for this case. If the file has several stages,
    returns [plan of the stage that needs most memory, plan of the last stage]."""
    text = job.text
    model = models["policy", page.size]
    out = where / f"{job.name}-{world}-{memory}-{'-'.join(more)}.json".replace(" ", "_")
    args = [plumb, "plan", job.command, *([job.source] if job.source else []), f"model={model}", f"plan.world_size={world}",
            f"plan.memory={memory}", f"output={out}", f"global_batch_size={PER_RANK * max(world, 8)}", *job.more]
    if job.command in ("prefer", "sft"):
        args += [f"data.max_tokens={PROMPT + ANSWER}"]
    else:
        args += [f"data.max_prompt_tokens={PROMPT}", f"prompts_per_iteration={page.prompts}"]
    args += [f"data.max_tokens={PROMPT + ANSWER}"] if "\nstages:" in text else []
    args += [f"reward.model={models['reward', job.reward]}"] if job.reward else []
    args += [f"method.{key}={model}" for key in ("embedder", "judge") if f"  {key}: checkpoints" in text]
    done = subprocess.run([str(a) for a in args + more], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 4):
        raise SystemExit(f"{' '.join(map(str, args + more))}\n{done.stdout}{done.stderr}")
    p = json.loads(out.read_text())
    return [max(p, key=lambda stage: stage["bytes_with_host"]), p[-1]] if isinstance(p, list) else [p, p]


def row(plans, job, trained, world, memory):
    p, last = plans
    return {"trained": trained, "config": job.name, "command": job.command, "world_size": world, "memory": memory,
            "needs": p["bytes_with_host"], "fits": p["fits"], "frozen": p.get("frozen"), "shard": p["shard"],
            "largest_micro_batch_size": p["largest_micro_batch_size"],
            "largest_slots": p.get("largest_slots"), "unit": last["estimate"]["unit"],
            "seconds": last["estimate"]["seconds"], "gpu_hours": last["estimate"]["gpu_hours"],
            "units": last["estimate"]["units"], "rates": last["estimate"]["rates"]}


def cell(rows, config, trained, world, memory):
    r = next(r for r in rows if (r["config"], r["trained"], r["world_size"], r["memory"]) ==
             (config, trained, world, memory))
    frozen = f", {r['frozen']}" if r.get("frozen") else ""
    text = f"{r['needs'] / 1e9:.1f}{frozen}{', shards' if r['shard'] == 'gradients' else ''}"
    if r["fits"]:
        slots = f", slots {r['largest_slots']}" if r["largest_slots"] else ""
        return f"**{text}** (micro-batch {r['largest_micro_batch_size']}{slots})"
    return text + (f" (with micro-batch {r['largest_micro_batch_size']})" if r["largest_micro_batch_size"] else "")


LEGEND = [
    "- A cell: GB that the rank with the largest need takes, with the margin; bold: it fits. In brackets the "
    "largest `train.micro_batch_size` and `generate.slots` that fit, each alone; `with micro-batch N` behind a cell "
    "that is not bold: it fits with that micro-batch.",
    "- resident, sharded, offload: where the layers of frozen models are (`frozen: auto`); shards: a rank has shards "
    "of gradients and float32 masters, too (`train.shard: auto` takes `gradients`).",
    "- 80 GB and 141 GB are what a rank may take (`plan.memory`). Such GPUs have 85 and 150 GB; CUDA's context and "
    "NCCL's buffers are beside the plan."]


def head_8b(page, version):
    return ["# Plan of configs/8b", "", "    python3 benchmarks/plan.py 8b build/plumb", "",
            f"**A plan, not a measurement**, by `plumb plan` of {version}: none of these runs has been "
            "started, and no figure was taken on a GPU.", "",
            "- Model: the shape of Llama 3 8B (8,030,261,248 parameters), and a reward model of that shape, in bfloat16.",
            f"- Prompts of {PROMPT} tokens, answers as long as each file allows (pairs: {PROMPT + ANSWER} tokens); an "
            f"iteration of align has {page.prompts:,} prompts.",
            "- spa is a file of stages: memory is that of the stage that needs most, time that of its last stage.",
            "- The files without eval and `*_lora`. Changed in them: the models, the longest prompt or pair, the prompts "
            f"per iteration, `lora.r` (full: 0) and `global_batch_size`: {PER_RANK} prompts or pairs per rank and step "
            "on 64 GPUs, 64 on 1 and 8. LoRA: r 8, alpha 16, all-linear.", *LEGEND, ""]


def head_70b(page, version):
    count = plan_beyond.Shape(SHAPES[page.size]).parameters
    return ["# Plan for models of 70 B parameters", "", "    python3 benchmarks/plan.py 70b build/plumb", "",
            f"**A plan, not a measurement**, by `plumb plan` of {version}: none of these runs has been "
            "started, and no figure was taken on a GPU.", "",
            f"- Model: the shape of Llama 3.1 70B ({count:,} parameters), in bfloat16; reward models of the shapes of "
            "Llama 3.1 8B and 70B with one score.",
            f"- Prompts of {PROMPT} tokens and answers of {ANSWER}; pairs and records of SFT have {PROMPT + ANSWER} "
            f"tokens. An iteration of align has {page.prompts:,} prompts; a step has {PER_RANK} prompts, pairs or records "
            "per rank.",
            "- psle and dpo are `configs/8b/psle.yaml`, `dpo.yaml` and `prefer_dpo.yaml`; SFT has the micro-batch of 8, "
            "`train.recompute` and `train.shard: auto` of these files. LoRA: r 8, alpha 16, all-linear.",
            *LEGEND, ""]


def memory_tables(page, rows, configs):
    text = ["## Memory"]
    for trained in TRAINED:
        text += ["", f"### {trained}", "", "| file | " + " | ".join(f"{w} x {m}" for m in MEMORIES for w in page.worlds) + " |",
                 "|---|" + "---|" * (len(page.worlds) * len(MEMORIES))]
        text += [f"| {c} | " + " | ".join(cell(rows, c, trained, w, m) for m in MEMORIES for w in page.worlds) + " |"
                 for c in configs]
    return text


def condition_table(needs):
    return ["", "### psle of all weights on 8 GPUs", "", "The reward model of 8 B in shares (`frozen: sharded`), no reference "
            "(`kl_to_start: false`), shards of gradients and masters (`train.shard: gradients`), one micro-batch per rank and "
            "step, 128 sequences of 1,024 tokens at a time. GB of a rank, with the margin; each row changes one condition.", "",
            "| | GB |", "|---|---|"] + [f"| {k} | {v / 1e9:.1f} |" for k, v in needs.items()]


def time_table(page, rows, configs, note):
    rates = rows[0]["rates"]
    wide = next(r["rates"] for r in rows if r["memory"] == MEMORIES[1])
    text = ["", "## Estimated time", "",
            f"Seconds per iteration (align) or step (prefer{', sft' if page.size == '70b' else ''}), estimated from "
            f"{rates['flops']:.3g} FLOP/s, "
            f"{rates['bandwidth']:.3g} bytes/s from memory (141 GB: {wide['bandwidth']:.3g}), {rates['host_link']:.3g} "
            f"bytes/s inside a host of 8 and {rates['link']:.3g} between hosts: NVIDIA's published peaks times assumed "
            f"shares (`plumb help plan`). {note}", "",
            "| file | " + " | ".join(f"{t}, {w} x {m}" for t in TRAINED for m in MEMORIES for w in page.worlds) + " |",
            "|---|" + "---|" * (len(page.worlds) * len(MEMORIES) * len(TRAINED))]
    key = {(r["config"], r["trained"], r["world_size"], r["memory"]): r for r in rows}
    return text + [f"| {c} | " + " | ".join(f"{key[c, t, w, m]['seconds']:.3g} ({key[c, t, w, m]['gpu_hours']:.3g})"
                                            for t in TRAINED for m in MEMORIES for w in page.worlds) + " |" for c in configs]


NOTE_8B = ("In brackets the GPU-hours of the run (prefer: of one step; spa: of its last "
           "stage). Whether it fits is not asked here. pro and selm have micro-batches of 14 and 16: with 8 prompts per "
           "rank, 5 and 4 of 8 ranks have one, so their times are too long (the files have 112 and 128 prompts per "
           "step).")
NOTE_70B = ("In brackets the GPU-hours of the run (prefer and sft: of one step). Whether it fits is not asked here: these are "
            "the times of the arithmetic if every rank had room for whole weights.")


def table(page, made):
    """Returns the lines of the Markdown page for `made`, the content of the JSON file."""
    rows = made["rows"]
    configs = list(dict.fromkeys(r["config"] for r in rows))
    if page.size == "8b":
        text = head_8b(page, made["version"]) + memory_tables(page, rows, configs)
        text += condition_table(made["conditions"]) + time_table(page, rows, configs, NOTE_8B + made.get("note", ""))
    else:
        text = head_70b(page, made["version"]) + memory_tables(page, rows, configs) + time_table(page, rows, configs, NOTE_70B)
        text += plan_beyond.page(made, SHAPES)
    return "\n".join(text) + "\n"


def make(page, plumb, only, jobs_at_once):
    """Runs `plumb plan` for every case of a page. Returns the content of the JSON file."""
    jobs = page.jobs(only)
    version = subprocess.run([plumb, "version"], capture_output=True, text=True, check=True).stdout.strip()
    cases = [(j, t, w, m) for j in jobs for t in TRAINED for w in page.worlds for m in MEMORIES]
    with tempfile.TemporaryDirectory() as where, ThreadPoolExecutor(jobs_at_once) as pool:
        where = Path(where)
        models = folders(where)

        def one(case):
            job, trained, world, memory = case
            return row(plan(plumb, page, job, where, models, world, memory, TRAINED[trained]), job, trained, world, memory)

        def apart(case):
            job, trained, world, variant = case
            more = [*TRAINED[trained], *plan_beyond.OPTIONS[job.command], *variant]
            return plan_beyond.parts(plan(plumb, page, job, where, models, world, MEMORIES[1], more)[0], job, trained, world,
                                     variant)
        made = {"version": version, "rows": list(pool.map(one, cases))}
        if page.size == "8b":
            psle = Job("psle", "align", ROOT / "configs/8b/psle.yaml", "8b")
            made["conditions"] = {text: plan(plumb, page, psle, where, models, 8, "80GB", [*SHARED, *more])[0]["bytes_with_host"]
                                  for text, more in CONDITIONS.items()}
        else:
            apart_cases = [(j, t, w, v) for j in jobs for t in TRAINED for w in page.worlds
                           for v in plan_beyond.VARIANTS[t]]
            made["parts"] = list(pool.map(apart, apart_cases))
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", choices=list(PAGES))
    parser.add_argument("plumb", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, help="results, without ending; default: benchmarks/results/plan-PAGE")
    parser.add_argument("--only", nargs="*", help="names of files of configs/8b, or of the cases of 70b")
    parser.add_argument("--jobs", type=int, default=2)
    a = parser.parse_args()
    page = PAGES[a.page]
    out = a.out or ROOT / f"benchmarks/results/plan-{a.page}"
    if a.plumb:
        Path(f"{out}.json").write_text(json.dumps(make(page, a.plumb, a.only, a.jobs), indent=1) + "\n")
    made = json.loads(Path(f"{out}.json").read_text())
    Path(f"{out}.md").write_text(table(page, made))


if __name__ == "__main__":
    main()
