"""plan_beyond.py - memory and time that a model too large for one GPU would need with designs
that plumb does not have.
Computed from the plans of plumb (plan.py) and the formulas below: sizes come from config.json,
rates from the plan. Every figure of the second half of plan-70b.md comes from these functions.
Needs the standard library only.

  layer shares   each of G ranks holds 1/G of every layer's matrices; before a pass computes a
  layer, the ranks gather it
  slices         each of T ranks holds the weights of some outputs of every matrix, and computes
  only these outputs"""
import json
import math
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BF16, F32 = 2, 4       # bytes per element
HOST = 8               # ranks per host: the default of plan.host_ranks
# number of partial sums into which a product is divided along its input dimension; fixed, so that
# bits do not depend on T
PARTS = 8
# tokens of a prompt, tokens of an answer, micro_batch_size in the configuration files
PROMPT, ANSWER, MICRO = 512, 512, 8
# The plans from which the designs are derived: frozen models resident, gradients and optimizer state in
# shards.
DIVIDED = ["train.shard=gradients"]
OPTIONS = {"sft": DIVIDED, "prefer": ["frozen=resident", *DIVIDED], "align": ["frozen=resident", *DIVIDED]}
VARIANTS = {"full": [[], ["train.offload_moments=true"]], "LoRA": [[]]}


class Shape:
    """The sizes of a Llama model, read from its config.json."""

    def __init__(self, config):
        self.c, self.f, self.l = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
        self.h, self.hk, self.v = config["num_attention_heads"], config["num_key_value_heads"], config["vocab_size"]
        self.d = self.c // self.h
        self.layer = self.c * self.h * self.d * 2 + self.c * self.hk * self.d * 2 + 3 * self.c * self.f
        self.layers = self.l * self.layer
        self.head = self.v * self.c
        self.parameters = self.layers + 2 * self.head + (2 * self.l + 1) * self.c
        self.kv = 2 * self.l * self.hk * self.d * BF16  # bytes of the keys and values of one token


def latency():
    """Returns the seconds per message in benchmarks/scaling/8b-h200.json."""
    return json.loads((ROOT / "benchmarks/scaling/8b-h200.json").read_text())["latency_s"]


def reward_tokens():
    """Returns the number of tokens in one forward pass of the reward model."""
    return int(re.search(r"BATCH_TOKENS = (\d+)", (ROOT / "src/stage/rewards.c").read_text())[1])


def parts(p, job, trained, world, variant):
    """Returns the numbers of the plan p that the functions below need."""
    packed = {}
    for r in p["rows"]:
        if r["what"] == "packed weights" and not r["host"]:
            packed[r["owner"]] = packed.get(r["owner"], 0) + r["bytes"]
    return {"config": job.name, "command": job.command, "trained": trained, "world_size": world, "variant": variant,
            "reward": job.reward, "needs": p["bytes_with_host"], "packed": packed,
            "host": sum(r["bytes"] for r in p["rows"] if r["host"]),
            "estimate": p["estimate"]}


# ---- memory --------------------------------------------------------------------------------------------------

def needs(part, shapes, ranks):
    """Returns the bytes that a rank needs if `ranks` ranks share the layers of every model: the bytes of the
    plan, minus the whole layers, plus a share of the layers, plus two layer buffers for each model."""
    total = part["needs"]
    for owner, held in part["packed"].items():
        s = shapes[part["reward"]] if owner == "reward model" else shapes["70b"]
        models = round(held / (BF16 * s.layers))
        if models < 1 or held < models * BF16 * s.layers:
            raise SystemExit(f"{part['config']}: {owner} holds {held} bytes, its layers take {BF16 * s.layers}")
        total += models * (2 * BF16 * s.layer - BF16 * s.layers * (ranks - 1) // ranks)
    return total


# ---- times ---------------------------------------------------------------------------------------------------

def moved(size, ranks):
    """Returns (bytes that a rank sends to ranks of its own host, bytes that it sends to other hosts) when `ranks`
    ranks gather `size` bytes."""
    inside = min(ranks, HOST)
    return size * (1 - 1 / inside), size * (1 / inside - 1 / ranks)


def gather(s, ranks, rates):
    """Returns the seconds of one gather of all layers by `ranks` ranks."""
    near, far = moved(BF16 * s.layers, ranks)
    return near / rates["host_link"] + far / rates["link"]


def passes(part, page_prompts):
    """Returns how often a rank gathers all layers of a model in one iteration or step: {phase: (gathers, size of the
    model)}. A forward pass gathers once. Forward and backward together gather twice: the backward gathers each
    layer once, for both its recomputation and its gradients."""
    if part["command"] != "align":
        out = {"update": (2, "70b")}
        return {**out, "reference": (1, "70b")} if part["command"] == "prefer" else out
    local = page_prompts / part["world_size"]
    groups = math.ceil(local / MICRO)
    phases = part["estimate"]["phases"]
    answers = local * answers_of(part)
    out = {"prefill": (groups, "70b"), "comparison": (1, "70b"), "update": (2 * groups, "70b")}
    if phases["reference"]["flops"] > 0:
        out["reference"] = (groups, "70b")
    if "reward" in phases:
        out["reward"] = (math.ceil(answers / max(1, reward_tokens() // (PROMPT + ANSWER))), part["reward"])
    return out


def option(config, name):
    """Returns the value of an option in configs/8b/dpo.yaml or psle.yaml."""
    file = "dpo" if config.startswith("dpo of own") else "psle"
    return int(re.search(r"^  %s: (\d+)" % name, (ROOT / f"configs/8b/{file}.yaml").read_text(), re.M)[1])


def answers_of(part):
    return option(part["config"], "group_size")


def live_of(part, page_prompts):
    """Returns the number of sequences that a rank decodes at the same time."""
    return min(option(part["config"], "slots"), page_prompts / part["world_size"] * answers_of(part))


def step(s, live, design, ranks, rates):
    """Returns the figures of one decode step with `live` sequences per rank, each halfway through its answer: bytes
    of weights that a rank holds (held), bytes of weights and partial sums that it reads, bytes sent, messages,
    seconds of transport and of the whole step. design: "whole" (each rank has all weights), "layers" (layers are
    gathered), "partial sums" or "inputs" (slices; partial sums, or inputs of the matrices, are exchanged)."""
    near = far = messages = 0
    weights, extra = BF16 * (s.layers + s.head), 0
    held = weights
    rows = live * ranks  # sequences that the ranks decode together
    kept = (ranks - 1) / ranks
    if design == "layers":
        near, far = moved(BF16 * s.layers, ranks)
        held = BF16 * (s.layers / ranks + 2 * s.layer + s.head)
    elif design != "whole":
        weights = held = weights / ranks
        logits = rows * F32 * s.v / ranks * kept
        messages = s.l * 4 * math.log2(ranks) + math.log2(ranks)
        # o and down projections: reduce-scatter of float32 sums, then a gather of the rounded rows
        if design == "partial sums":
            sent = s.l * rows * 2 * (F32 + BF16) * s.c * kept
            # each partial sum is written once and read once
            extra = s.l * 2 * rows * PARTS / ranks * F32 * s.c * 2
        else:  # the inputs and outputs of the o and down projections are gathered
            sent = s.l * rows * BF16 * (s.h * s.d + s.c + s.f + s.c) * kept
        near, far = moved_slices(sent + logits, ranks)
    flops = 2 * (s.layers + s.head) * live + 4 * s.l * s.h * s.d * live * (PROMPT + ANSWER / 2)
    read = weights + live * s.kv * (PROMPT + ANSWER / 2) + extra
    transport = near / rates["host_link"] + far / rates["link"] + messages * latency()
    return {"held": held, "read": weights + extra, "sent": near + far, "messages": messages, "transport": transport,
            "seconds": max(flops / rates["flops"], read / rates["bandwidth"]) + transport}


def moved_slices(sent, ranks):
    """Divides `sent` bytes between the own host and other hosts in the same ratio as moved()
    does."""
    near, far = moved(1, ranks)
    return sent * near / (near + far), sent * far / (near + far)


def rollout(part, s, design, ranks, rates, page_prompts):
    """Returns the seconds of the rollout phase with another design of the decode step: the operations of the
    plan, the plan's bytes corrected for the design, and the transport of every decode step."""
    live = live_of(part, page_prompts)
    steps = page_prompts / part["world_size"] * answers_of(part) * ANSWER / live
    p, new = part["estimate"]["phases"]["rollout"], step(s, live, design, ranks, rates)
    read = p["bytes"] + steps * (new["read"] - step(s, live, "whole", 1, rates)["read"])
    return max(p["flops"] / rates["flops"], read / rates["bandwidth"]) + steps * new["transport"]


def seconds_of(phase, rates):
    return (max(phase["flops"] / rates["flops"], phase["bytes"] / rates["bandwidth"]) +
            phase["sent_inside"] / rates["host_link"] + phase["sent"] / rates["link"])


def times(part, shapes, rates, page_prompts):
    """Returns the seconds of one iteration or step: by the plan, and with each design."""
    phases = part["estimate"]["phases"]
    plan = sum(seconds_of(p, rates) for p in phases.values())
    out = {"plan": plan}
    for name, ranks in (("host", min(HOST, part["world_size"])), ("all", part["world_size"])):
        out[name] = plan + sum(n * gather(shapes[size], ranks, rates) for n, size in passes(part, page_prompts).values())
    if "rollout" in phases:
        t = min(HOST, part["world_size"])
        before = seconds_of(phases["rollout"], rates)
        base = out["host"] - before
        for name, design, ranks in (("host", "layers", t), ("all", "layers", part["world_size"])):
            out[name] += rollout(part, shapes["70b"], design, ranks, rates, page_prompts) - before
        out["sums"] = base + rollout(part, shapes["70b"], "partial sums", t, rates, page_prompts)
        out["inputs"] = base + rollout(part, shapes["70b"], "inputs", t, rates, page_prompts)
    return out


# ---- the page ------------------------------------------------------------------------------------------------

FORMULAS = """
    c f l h hk d v   hidden, MLP, layers, heads, kv heads, size of a head, vocabulary, of the config.json
    P   = 2 c h d + 2 c hk d + 3 c f                 weights of a layer's matrices
    KV  = 4 l hk d                                   bytes of the keys and values of a token
    need(G) = plan - 2 l P (1 - 1/G) + 2 x 2 P       of a rank, if G ranks share the layers; the last term: two buffers
    near(x, G) = x (1 - 1/min(G, 8))                 bytes that a rank sends inside its host when G ranks gather x bytes
    far(x, G)  = x (1/min(G, 8) - 1/G)               and to other hosts
    gather(G)  = near(2 l P, G) / inside + far(2 l P, G) / between                                  seconds of a pass
    step  = max(FLOP / rate, bytes read / bandwidth) + near / inside + far / between + messages x latency
    rollout = max(FLOP of the phase / rate, bytes of the phase / bandwidth) + steps x transport of a step
    layer-gathered step       sends near(2 l P, G) + far(2 l P, G)
    partial sums, T ranks     sends l n (T-1)/T x 2 (4 c + 2 c),               4 l log2 T messages
    gathered inputs, T ranks  sends l n (T-1)/T x 2 (h d + c + f + c),         4 l log2 T messages
                              n = T x live sequences; both also send the logits, 4 v n / T (T-1)/T in log2 T messages
"""


def gb(x):
    return f"{x / 1e9:.1f}"


def page(made, configs):
    """Returns the lines of the second half of plan-70b.md."""
    shapes = {size: Shape(c) for size, c in configs.items()}
    s, prompts = shapes["70b"], 8192
    rates = {r["memory"]: r["rates"] for r in made["rows"]}
    text = ["", "## What fits", ""] + fits(made, s)
    text += ["", "## What would have to be built", "",
             "Nothing of this part exists in plumb. Each figure follows from the plan and from these formulas "
             "(`benchmarks/plan_beyond.py`):", *FORMULAS.splitlines(), "",
             f"latency: {latency():.3g} s per message (`benchmarks/scaling/8b-h200.json`); all rates are those of the section "
             "above. Work is not assumed to hide transport: the times are sums, and so an upper bound of these designs."]
    text += memory_part(made, shapes) + gather_part(s, rates, made) + decode_part(s, rates) + time_part(made, shapes, rates, prompts)
    return text


def fits(made, s):
    rows = made["rows"]
    count = sum(r["fits"] for r in rows)
    lines = [f"{count} of the {len(rows)} cases fit. Every rank holds the trained model, or the base beside an adapter, as whole "
             f"bfloat16 weights, because each rank generates on its own: 2 x {s.parameters:,} = {gb(BF16 * s.parameters)} GB."]
    kinds = sorted({(r["frozen"], r["shard"]) for r in rows if r["command"] == "align"})
    lines += ["For align the plan chose: " + ", ".join(f"`frozen: {f}` with `train.shard: {k}`" for f, k in kinds) +
              ". Where nothing fits it takes what needs least."]
    return lines


def memory_part(made, shapes):
    parts_of = {(p["config"], p["trained"], tuple(p["variant"]), p["world_size"]): p for p in made["parts"]}
    worlds = sorted({p["world_size"] for p in made["parts"]})
    text = ["", "### Layer shares: memory", "",
            "GB of a rank with `train.shard: gradients`: with all models whole, as plumb has them, with the layers of all models shared "
            "by the 8 ranks of a host, and by all ranks. **Bold**: fits 80 GB; *italic*: fits 141 GB. The bracket behind a case with "
            "moments in host memory: GB of host memory that the ranks of a host take.",
            "", "| case | " + " | ".join(f"{w}: whole | host | all" for w in worlds) + " |",
            "|---|" + "---|---|---|" * len(worlds)]
    for key in dict.fromkeys((c, t, v) for c, t, v, _ in parts_of):
        config, trained, variant = key
        cells = []
        for w in worlds:
            p = parts_of[(*key, w)]
            for size in (p["needs"], needs(p, shapes, min(HOST, w)), needs(p, shapes, w)):
                mark = "**" if size <= 80e9 else "*" if size <= 141e9 else ""
                cells.append(f"{mark}{gb(size)}{mark}")
        host = max(parts_of[(*key, w)]["host"] * min(HOST, w) for w in worlds)
        note = f", moments in host memory ({gb(host)})" if variant else ""
        text.append(f"| {config}, {trained}{note} | " + " | ".join(cells) + " |")
    return text + [""] + [summary(parts_of, shapes, w) for w in worlds]


def summary(parts_of, shapes, world):
    """Returns a line with the number of cases that fit on `world` ranks. A case with several variants is
    represented by the variant that needs fewest bytes."""
    cases = list(dict.fromkeys((c, t) for c, t, _, w in parts_of if w == world))
    counts = []
    for name, ranks in (("a host", min(HOST, world)), ("all ranks", world)):
        least = [min(needs(p, shapes, ranks) for (c, t, _, w), p in parts_of.items() if (c, t, w) == (*case, world)) for case in cases]
        counts.append(f"shared by {name} " + ", ".join(f"{sum(x <= room for x in least)} in {room / 1e9:.0f} GB" for room in (80e9, 141e9)))
    return f"- {world} GPUs: of {len(cases)} cases fit, " + "; ".join(counts) + "."


def gather_part(s, rates, made):
    worlds = sorted({p["world_size"] for p in made["parts"]})
    r = rates["141GB"]
    tokens = MICRO * (PROMPT + ANSWER)
    work = 2 * s.layers * tokens / r["flops"]
    text = ["", "### Layer shares: a pass", "",
            f"A forward of a micro-batch of {tokens:,} tokens takes {work:.3g} s of products in the layers. Gathering {gb(BF16 * s.layers)} "
            "GB of layers takes, per pass:", "", "| shares of | ranks | GB sent inside the host | GB sent to other hosts | s | of the forward |",
            "|---|---|---|---|---|---|"]
    for name, ranks in [("a host", HOST)] + [("all", w) for w in worlds if w > HOST]:
        near, far = moved(BF16 * s.layers, ranks)
        t = gather(s, ranks, r)
        text.append(f"| {name} | {ranks} | {gb(near)} | {gb(far)} | {t:.3g} | {100 * t / work:.0f} % |")
    return text


def decode_part(s, rates):
    live = option("psle", "slots")
    text = ["", "### A decode step", "",
            f"{live} sequences per rank, after {PROMPT} + {ANSWER // 2} tokens: {gb(live * s.kv * (PROMPT + ANSWER))} GB of keys and values when full. "
            f"Partial sums: S = {PARTS}.", "",
            "| design | ranks of a group | GB of weights per rank | MB sent per rank and step | KB sent per sequence | messages | "
            + " | ".join(f"s per step, tok/s per GPU, {m}" for m in rates) + " |",
            "|---|---|---|---|---|---|" + "---|" * len(rates)]
    designs = [("whole weights (does not fit)", "whole", 1), ("layer-gathered", "layers", 8), ("layer-gathered", "layers", 64),
               ("layer-gathered", "layers", 512)]
    designs += [(f"slices, {d}", d, t) for d in ("partial sums", "inputs") for t in (2, 4, 8)]
    for name, design, ranks in designs:
        x = {m: step(s, live, design, ranks, r) for m, r in rates.items()}
        one = next(iter(x.values()))
        text.append(f"| {name} | {ranks} | {gb(one['held'])} | {one['sent'] / 1e6:.0f} | {one['sent'] / live / 1e3:.0f} | {one['messages']:.0f} | " +
                    " | ".join(f"{y['seconds']:.3g}, {live / y['seconds']:.0f}" for y in x.values()) + " |")
    break_even = {m: gather(s, HOST, r) / (2 * (s.layers + s.head) / r["flops"]) for m, r in rates.items()}
    text += ["", "With layer-gathered decode the products take as long as the gather of a host from "
             f"{max(break_even.values()):.0f} sequences per rank on; their keys and values would take "
             f"{gb(max(break_even.values()) * s.kv * (PROMPT + ANSWER))} GB. Slices on {HOST} ranks also need the rows of the whole group, "
             f"T live (2 c + f) x 2 bytes = {HOST * live * (2 * s.c + s.f) * BF16 / 1e6:.0f} MB."]
    return text + DESIGN_NOTES


DESIGN_NOTES = """
**Bits.** *Layer-gathered*: the gathered layer has the bytes of the whole one, so every bit stays as it is on one rank.
*Slices with gathered inputs*: a rank computes some of the outputs of every matrix, each over all inputs in the order that plumb has; what is
gathered is not added. The bits do not change for any T that divides heads, kv heads, `f`, `c` and the vocabulary into whole tiles. On a GPU
the product of a slice has fewer outputs, so it needs an algorithm of its own, from the class of bits of the whole product (`pins`).
*Slices with partial sums*: `o` and `down` are divided along their inputs. A sum is S fixed parts of the inputs, added along a balanced
tree; T ranks hold S/T neighbouring parts each, add them as a subtree, and the tree goes on across ranks (halving, as the gradient's). So
1, 2, 4 .. S ranks give the same bits, but not those that plumb has: one rank, too, must add S parts, and decode, scoring and training must
all do so (one forward pass). The softmax over slices of the vocabulary needs no fixed parts in either form, because the logits are gathered.
*Training* needs no slices: its passes have enough tokens to bear a gather, and the gradient of a layer's inputs would need partial sums,
because a slice of the outputs is a part of the inputs of that product.

**What to build.** (1) Shares of the trained model's layers among the ranks of a host, gathered for each pass: `src/model/provider.h` does this
for frozen models; the update of the masters then writes shares. (2) Slices of outputs for decode over the same ranks, with gathered inputs:
few bytes more than partial sums, and no bit changes. A share of a layer is then a slice of each of its matrices, so that one storage serves
both. Partial sums are not needed.
""".splitlines()


def time_part(made, shapes, rates, prompts):
    text = ["", "### Time with these designs", "",
            "Seconds per iteration (align) or step; in brackets GPU-hours of the run (prefer, sft: of one step). *plan*: as if whole weights "
            "fitted; *host*, *all*: every pass and every decode step gathers layers from the ranks of a host, or from all; *partial sums*, "
            f"*inputs*: passes gather from the ranks of a host, decode has slices on {HOST} ranks. The transport of the frozen models' layers is "
            "counted, unlike in the table of the plan. `offload_moments` is not.", "",
            "| case | GPUs | plan | host | all | partial sums | inputs |", "|---|---|---|---|---|---|---|"]
    for p in made["parts"]:
        if p["variant"]:
            continue
        for m, r in rates.items():
            x = times(p, shapes, r, prompts)
            hours = p["estimate"]["units"] * p["world_size"] / 3600
            cells = [f"{x[k]:.3g} ({x[k] * hours:.3g})" if k in x else "-" for k in ("plan", "host", "all", "sums", "inputs")]
            text.append(f"| {p['config']}, {p['trained']} | {p['world_size']} x {m} | " + " | ".join(cells) + " |")
    return text
