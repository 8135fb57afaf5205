#!/usr/bin/env python3
"""test_plan.py PLUMB WORLD - checks that `plumb plan` counts the bytes that a run allocates, on one
rank and on two; that nothing is allocated after the set-up; that plan needs only the config.json
of a model; and that a run that does not fit is refused before it writes anything."""
import json
import re
from pathlib import Path

import common

LLAMA_8B = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096,
            "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": False,
            "hidden_act": "silu", "bos_token_id": 128000, "eos_token_id": 128001}
# tolerance in bytes: alignment of two allocations, and the address sanitizer's red zone between
# them
GUARD = 512
TAKEN = re.compile(r"memory (at the start|at the end): (\d+) bytes planned, (\d+) taken, "
                   r"(\d+) beside the plan, (\d+) allocations")


def plan(bench, args, *more, **kw):
    """Returns the JSON object that `plumb plan` writes for a run's command line. Checks that the exit code
    says whether it fits."""
    out = bench.folder / "plan.json"
    out.unlink(missing_ok=True)
    r = bench.run("plan", *args, f"output={out}", *more, **kw)
    if not out.exists():
        raise SystemExit(f"FAILED, cannot go on: {r}")
    p = json.loads(out.read_text())
    bench.check(r.code == (0 if p["fits"] else 4) and ("does not fit: rank" in r.err) != p["fits"],
                "fits:", p["fits"], "but", r)
    return p


def held(p, what, owner=None):
    return sum(r["bytes"] for r in p["rows"] if r["what"] == what and owner in (None, r["owner"]))


def same_as_run(bench, args, ranks=1, env=None):
    """Runs the command, and checks that every rank allocated the bytes of the plan for that number
    of ranks. Returns the plan."""
    planned = plan(bench, args, f"plan.world_size={ranks}", env=env)
    ran = bench.good(*args, "log_level=debug", ranks=ranks, env=env)
    rows = TAKEN.findall(ran.err)
    bench.check(len(rows) == 2 and "warning: memory" not in ran.err, args[0], "lines about memory:", len(rows))
    gone = re.findall(r"memory of the GPU: (-?\d+) bytes taken by the driver since the plan", ran.err)
    bench.check(all(g == "0" for g in gone), args[0], "the libraries were not warmed up:", gone)
    bench.check(len(gone) == 1 or "device=cuda" not in args, args[0], "lines about the GPU:", gone)
    most = max((int(r[1]) for r in rows), default=0)
    bench.check(most == planned["bytes"], args[0], "planned", planned["bytes"], "rows", rows)
    bench.check(len({r[4] for r in rows}) == 1, args[0], "allocated after the set-up:", rows)
    for _, want, got, beside, _ in rows:
        bench.check(want == got and beside == "0", args[0], "took otherwise:", rows)
    largest = planned.get("largest_micro_batch_size", planned.get("largest_micro_batch_tokens"))
    bench.check(planned["fits"] and largest > 0, "fits:", planned)
    return planned


def test_runs(bench):
    base = bench.base()
    few = ["micro_batch_size=2", "log_every=1"]
    out = bench.folder / "run"
    sft = same_as_run(bench, bench.sft_args(out / "sft", *few, steps=2))
    same_as_run(bench, bench.reward_args(out / "reward", base, *few, steps=2))
    same_as_run(bench, bench.prefer_args(out / "prefer", base, "method.name=dpo", *few, steps=2))
    # The held-out records are longer, and there are more prompts, than in training.
    sft_held, pairs_held = ["data.limit=8", f"data.eval={bench.world}/sft.jsonl"], [f"data.eval={bench.world}/pairs.jsonl"]
    same_as_run(bench, bench.sft_args(out / "sft-eval", *few, *sft_held, steps=2))
    same_as_run(bench, bench.prefer_args(out / "prefer-eval", base, "method.name=dpo", *few, "data.limit=8", *pairs_held, steps=2))
    held_prompts = [f"reward.model={out}/reward/latest", "data.limit=8", f"data.eval={bench.world}/prompts.jsonl"]
    same_as_run(bench, bench.align_args(out / "align-eval", base, *held_prompts, prompts=8))
    align = bench.align_args(out / "align", base, f"reward.model={out}/reward/latest", prompts=8)
    p = same_as_run(bench, align)
    phases = p["phases"]
    shared = phases["rollout"] > 0 and phases["train"] > 0 and phases["reward"] > 0
    # under the address sanitizer the phases do not share memory
    if phases["always"] < p["bytes"] and shared:
        most = max(v for k, v in phases.items() if k != "always")
        bench.check(p["bytes"] - 2**21 < phases["always"] + most <= p["bytes"], "shared:", p)
    owners = {r["owner"] for r in p["rows"]}
    bench.check({"policy", "optimizer", "gradients", "training pass", "generation", "reward model",
                 "reference models"} <= owners, "owners:", owners)
    bench.check(abs(held(p, "weights", "policy") - held(p, "first moments")) <= GUARD,
                "weights, moments:", p)
    # micro_batch_tokens: the plan takes the largest micro-batches of the whole run
    by_tokens = ["micro_batch_size=0", "micro_batch_tokens=400", "log_every=1"]
    for name, more in (("plain", []), ("eval", sft_held), ("shards", ["epochs=3", "train.shard=gradients"])):
        same_as_run(bench, bench.sft_args(out / f"sft-tokens-{name}", *by_tokens, *more, steps=60))
    same_as_run(bench, bench.reward_args(out / "reward-tokens", base, *by_tokens, steps=2))
    same_as_run(bench, bench.prefer_args(out / "prefer-tokens", base, *by_tokens, "method.name=real", "method.keep=0.5", steps=2))
    same_as_run(bench, bench.align_args(out / "align-tokens", base, f"reward.model={out}/reward/latest", "micro_batch_size=0",
                                        "micro_batch_tokens=700", prompts=8))
    moving = bench.align_args(out / "spa", base, "method.reference=previous", method="spa",
                              prompts=8, group=2)
    # spa needs two references: the one that moves, and the judge, which is the start model
    spa = same_as_run(bench, moving)
    two = held(spa, "packed weights", "reference models")
    bench.check(two >= 2 * held(spa, "packed weights", "policy"), "two:", spa)
    if bench.mpirun:
        two = same_as_run(bench, bench.sft_args(out / "two", *few, steps=2), ranks=2)
        bench.check(held(two, "first moments") < held(sft, "first moments"), "shared by two", two)
        same_as_run(bench, bench.sft_args(out / "two-tokens", *by_tokens, steps=4), ranks=2)


def available():
    """Returns the bytes of memory that are available on this host now, counted as in
    src/backend/host.c."""
    text = Path("/proc/meminfo").read_text()
    size = 1024 * int(re.search(r"MemAvailable: *(\d+) kB", text).group(1))
    limit = Path("/sys/fs/cgroup/memory.max")
    limited = limit.read_text().strip() if limit.exists() else "max"
    return min(size, int(limited)) if limited.isdigit() else size


def test_free(bench):
    """Checks that plan and doctor report MemAvailable as free memory. Other programs take memory
    during the test, so it is enough if one of many readings agrees within 32 MB."""
    sft = bench.sft_args(bench.folder / "free")
    for args, said in ((["doctor"], r" ([\d.]+) MB free"), (["plan", *sft], r"free are ([\d.]+) MB")):
        seen = []
        for _ in range(40):
            before, r, after = available(), bench.good(*args), available()
            found = float(re.search(said, r.out).group(1))
            seen.append((before, found, after))
            if min(before, after) / 1e6 - 32 < found < max(before, after) / 1e6 + 32:
                break
        else:
            bench.check(False, args[0], "counts other memory as free:", seen)
    r = bench.run("plan", *sft, "plan.world_size=4")
    bench.check("assumed: plan.memory: is not set" in r.out, "free memory of four ranks:", r.out, r)


def test_fit(bench):
    """Checks that the largest micro-batch size and slots that plan names fit, and that the next
    larger ones do not."""
    base = bench.base()
    args = bench.align_args(bench.folder / "fit", base, "reward.command=cat", prompts=64, group=2)
    args += ["global_batch_size=64"]
    for memory in ("12MB", "16MB", "30MiB"):
        p = plan(bench, args, f"plan.memory={memory}")
        for option, most, end in (("micro_batch_size", p["largest_micro_batch_size"], 64),
                                  ("slots", p["largest_slots"], 65536)):
            for value, fits in ((most, True), (most + 1, False)):
                if 0 < value <= end:
                    q = plan(bench, args, f"plan.memory={memory}", f"{option}={value}")
                    bench.check(q["fits"] == fits, memory, option, value, "fits:", q["fits"])


def test_fit_tokens(bench):
    """Checks the same for micro_batch_tokens, with a data file and without one."""
    sft = bench.sft_args(bench.folder / "fit-tokens", "global_batch_size=64", "micro_batch_size=0")
    for args in (sft, [a for a in sft if not a.startswith("data.train=")]):
        for memory, tokens in (("12MB", 256), ("30MiB", 512)):
            p = plan(bench, args, f"plan.memory={memory}", f"micro_batch_tokens={tokens}")
            most = p["largest_micro_batch_tokens"]
            bench.check("largest_micro_batch_size" not in p and (most >= tokens) == p["fits"], memory, p)
            for value, fits in ((most, True), (most + 1, False)):
                if most > 0:
                    q = plan(bench, args, f"plan.memory={memory}", f"micro_batch_tokens={value}")
                    bench.check(q["fits"] == fits, memory, "micro_batch_tokens", value, "fits:", q["fits"])
    r = bench.run("plan", *sft, "plan.memory=1MB", "micro_batch_tokens=512")
    bench.check(r.code == 4 and "train.micro_batch_tokens of 512 or more does not fit" in r.out, "no limit fits:", r.out, r)


def test_refused(bench):
    base, out = bench.base(), bench.folder / "never"
    args = bench.align_args(out, base, "reward.command=cat", "plan.memory=1MB")
    refused = bench.run(*args)
    bench.check(refused.code == 4 and "would need" in refused.err and "lower" in refused.err and
                "packed weights" in refused.err, "no refusal:", refused)
    bench.check(not out.exists(), "a refused run left its folder")
    for more, text in ((["plan.memory=many"], "such as 80GB"), (["plan.memory=-1GB"], "found '-1GB'"),
                       (["plan.memory=80"], "80 bytes"), (["plan.memory=80"], "80GB"),
                       (["plan.memory=9999999"], "without a unit")):
        bad = bench.run("plan", *args[:-1], *more)
        bench.check(bad.code == 12 and text in bad.err, "accepted:", bad)
    bad = bench.run("plan", "generate", f"model={base}")
    bench.check(bad.code == 12 and "align, sft" in bad.err, "accepted:", bad)
    bad = bench.run("plan", *args, "iteration=3")
    bench.check(bad.code == 12 and "iterations" in bad.err, "accepted:", bad)


def test_reward_context(bench, model, align):
    """Checks that the memory of the reward model's batch depends on the length of the scored texts, not on the
    model's context length."""
    need = []
    for context in (8192, 131072):
        folder = bench.folder / f"reward-{context}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(
            {**LLAMA_8B, "architectures": ["LlamaForSequenceClassification"], "num_labels": 1,
             "max_position_embeddings": context}))
        need += [plan(bench, [*align, f"reward.model={folder}", *more])["rows"]
                 for more in ([], ["reward.context=8192"])]
    passes = [sum(r["bytes"] for r in rows if r["owner"] == "reward pass") for rows in need]
    bench.check(passes[0] == passes[2] and passes[1] == passes[3], "depends on the model's context:", passes)
    bench.check(1.9 < passes[1] / passes[0] < 2.1, "of 8192 and 4096 tokens:", passes)
    r = bench.run("plan", *align, f"reward.model={folder}", "reward.context=131073")
    bench.check(r.code == 12 and "at most the 131072 tokens" in r.err, "accepted:", r)


def test_config_alone(bench):
    """Checks the plan of a model with 8 B parameters, of which there is only config.json, against
    sizes computed by hand."""
    model = bench.folder / "8b"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(LLAMA_8B))
    count = 8030261248
    align = ["align", f"model={model}", "plan.memory=80GB", "max_prompt_tokens=512",
             "max_new_tokens=512", "global_batch_size=16", "micro_batch_size=1", "group_size=2"]
    one, eight = (plan(bench, align, f"plan.world_size={w}") for w in (1, 8))
    weights, moments = held(one, "weights", "policy"), held(one, "first moments")
    bench.check(0 <= weights - 4 * count <= GUARD, "weights:", weights)
    bench.check(0 <= moments - 4 * count <= GUARD and not one["fits"], "one rank:", one["bytes"])
    bench.check(abs(held(eight, "first moments") - count // 2) < 65536, "eight ranks:", eight["bytes"])
    sft = plan(bench, ["sft", f"model={model}", "plan.memory=1TB", "max_tokens=1024",
                       "global_batch_size=8", "micro_batch_size=2", "recompute=true"])
    inputs = held(sft, "layer input")
    test_reward_context(bench, model, align)
    bench.check(0 <= inputs - 33 * 2048 * 4096 * 4 <= 33 * GUARD, "layer inputs of 2 x 1024 tokens:", inputs)


def near(a, b):
    return abs(a - b) <= 1e-5 * abs(b)


def test_time(bench):
    """Checks the estimated time against a computation by hand: FLOP, bytes read and bytes sent,
    divided by the rates in the options."""
    model = bench.folder / "8b"
    c, f, v, l, d = 4096, 14336, 128256, 32, 128
    layers, head, count = l * (c * (2 * c + 2 * 1024) + 3 * c * f), v * c, 8030261248
    tokens, keys = 8 * 1024, 1024 * 1025 / 2

    def step(*more):
        return plan(bench, ["sft", f"model={model}", "device=cuda", "dtype=bfloat16", "plan.memory=2TB",
                            "max_tokens=1024", "global_batch_size=64", "micro_batch_size=8", "recompute=true",
                            "plan.world_size=8", "plan.host_ranks=4", "plan.flops=1e15",
                            "plan.flops_share=0.5", "plan.bandwidth=4e12", "plan.bandwidth_share=0.5",
                            "plan.host_link=4e11", "plan.link=4e10", "plan.link_share=0.25", *more])["estimate"]
    full, lora = step(), step("lora.r=8")
    for e, products in ((full, 3), (lora, 2)):
        flops = ((products + 1) * 2 * layers * tokens + 4.5 * 4 * l * 32 * d * 8 * keys +
                 (products + 1) * 2 * head * 8 * 1023)
        got = e["phases"]["update"]
        bench.check(near(got["flops"], flops) and near(got["seconds"], flops / 5e14), "update:", got, flops)
    sent = full["phases"]["exchange"]
    bench.check(near(sent["sent_inside"], 8 * count * 3 / 4) and near(sent["sent"], 8 * count / 8) and
                near(sent["seconds"], 6 * count / 1e11 + count / 1e10), "exchange:", sent)
    moved = full["phases"]["optimizer"]
    bench.check(near(moved["seconds"], count * (28 / 8 + 8 + 2) / 2e12), "optimizer:", moved)
    bench.check(near(full["seconds"], sum(p["seconds"] for p in full["phases"].values())) and
                near(full["gpu_hours"], 8 * full["seconds"] / 3600), "sums:", full)
    bench.check(lora["phases"]["exchange"]["seconds"] < 0.01 * sent["seconds"], "adapter:", lora)
    # three rounds of eight micro-batches of 3: three exchanges of gradients (float32), and one of weights
    # (bfloat16)
    split = step("train.shard=gradients", "micro_batch_size=3")["phases"]
    sent, moved = split["exchange"], split["optimizer"]
    bench.check(near(sent["sent_inside"], (3 * 4 + 2) * count * 3 / 4) and
                near(sent["sent"], (3 * 4 + 2) * count / 8), "exchange of rounds:", sent)
    bench.check(near(moved["seconds"], count * (12 * 2 / 8 + 28 / 8 + 10 / 8 + 2) / 2e12), "shards:", moved)
    a = plan(bench, ["align", f"model={model}", "device=cuda", "dtype=bfloat16", "plan.memory=80GB",
                     "max_prompt_tokens=256", "max_new_tokens=512", "plan.answer_tokens=256", "slots=16",
                     "global_batch_size=8", "iterations=1", "group_size=4", "method.name=dpo", "kl_to_start=false",
                     "plan.bandwidth_share=0.5"])
    n, rows = 32, 2 * 2 * l * 8 * d
    read = n * 256 / 16 * (2 * (layers + head) + 16 * rows * (256 + 128))
    got = a["estimate"]["phases"]
    bench.check(near(got["rollout"]["bytes"], read) and near(got["rollout"]["seconds"], read / 1.675e12),
                "rollout:", got["rollout"], read)
    forward = n * (2 * layers * 512 + 4 * l * 32 * d * 512 * 513 / 2 + 2 * head * 256)
    bench.check(near(got["reference"]["flops"], forward), "forward:", got)
    bench.check(near(got["comparison"]["flops"], forward * 4 / n), "one micro-batch of answers is compared:", got)
    r = bench.run("plan", "sft", f"model={model}", "plan.memory=2TB", "max_tokens=64", "plan.world_size=4",
                  "global_batch_size=2", "micro_batch_size=1")
    bench.check("no estimate of time" in r.out and "only 2 of the 4 ranks have work" in r.out, "CPU:", r)


def test_methods(bench):
    """Checks that every file of configs/8b can be planned with two model folders that have only
    a config.json."""
    model, reward = bench.folder / "8b", bench.folder / "8b-score"
    reward.mkdir()
    (reward / "config.json").write_text(json.dumps(
        {**LLAMA_8B, "architectures": ["LlamaForSequenceClassification"], "num_labels": 1}))
    for file in sorted((common.ROOT / "configs/8b").glob("*.yaml")):
        source = file.read_text()
        if file.stem == "eval":
            continue
        command = "run" if "\nstages:" in source else "prefer" if file.stem.startswith("prefer") else "align"
        more = [f"reward.model={reward}"] if "reward-8b" in source else []
        more += [f"method.{k}={model}" for k in ("embedder", "judge") if f"  {k}: checkpoints" in source]
        r = bench.run("plan", command, file, f"model={model}", "plan.memory=10TB", "plan.world_size=1",
                      "data.max_tokens=1024", *more)
        bench.check(r.code == 0 and "it fits" in r.out and "estimated, not measured" in r.out, file.stem, r)


def test_stages(bench):
    """Checks the plan of a file of stages: a stage that starts from the result of an earlier
    stage is planned with that stage's model, although the earlier stage has not run."""
    model, out = bench.folder / "8b", bench.folder / "stages.json"
    file = bench.folder / "stages.yaml"
    file.write_text(f"""output_dir: {bench.folder}/later
device: cuda
dtype: bfloat16
stages:
  - {{name: one, command: sft, model: {model}, data: {{train: no.jsonl}}, lora: {{r: 8}}}}
  - {{name: judge, command: reward, model: 'stage:one', data: {{train: no.jsonl}}}}
  - name: two
    command: align
    model: stage:one
    data: {{prompts: no.jsonl}}
    reward: {{model: 'stage:judge'}}
    method: {{name: dpo}}
    train: {{global_batch_size: 8, micro_batch_size: 1}}
  - {{name: table, command: eval, data: {{eval: no.jsonl}}, eval: {{models: ['a=stage:two']}}}}
""")
    args = ["plan", "run", file, "data.max_tokens=512", f"output={out}"]
    r = bench.run(*args, "plan.memory=150GB", "plan.world_size=2")
    bench.check(r.code == 0 and "table:" in r.out and "eval is not planned" in r.out, "stages:", r)
    hours = sum(p["estimate"]["gpu_hours"] for p in json.loads(out.read_text()))
    bench.check(f"3 of 4 stages, estimated, not measured: {hours / 2:.3g} hours, {hours:.3g} GPU-hours" in r.out, "sum:", r)
    one, judge, two = json.loads(out.read_text())
    bench.check([p["stage"] for p in (one, judge, two)] == ["one", "judge", "two"] and
                all(p["world_size"] == 2 and p["fits"] for p in (one, judge, two)), "stages:", r)
    bench.check(any("stage judge has not run" in a for a in two["assumed"]), "assumed:", two["assumed"])
    bench.check(held(two, "packed weights", "reward model") < held(two, "packed weights", "policy") and
                held(two, "first moments") < 2**28 and held(judge, "first moments") < 2**28, "adapters:", two)
    r = bench.run(*args, "plan.memory=25GB")
    bench.check(r.code == 4 and "stage one: " in r.err and "sft does not fit" in r.err and len(json.loads(out.read_text())) == 3,
                "it fits:", r)
    r = bench.run(*args, "plan.memory=25GB", "sft.nothing=1")
    bench.check(r.code == 12, "accepted:", r)
    bench.check(not (bench.folder / "later").exists(), "a plan wrote the folder of a run")


def plan_8b(bench, name, *more):
    """Returns the plan of configs/8b/NAME.yaml on eight ranks. Folders with only a config.json
    stand for its models, and a small file for its data."""
    model, reward, lines = (bench.folder / k for k in ("8b", "8b-reward", "8b.jsonl"))
    for folder, kind in ((model, "LlamaForCausalLM"), (reward, "LlamaForSequenceClassification")):
        folder.mkdir(exist_ok=True)
        config = {**LLAMA_8B, "architectures": [kind], "num_labels": 1}
        (folder / "config.json").write_text(json.dumps(config))
    record = json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n"
    lines.write_text(2048 * record)
    command = "prefer" if name.startswith("prefer") else "align"
    source = (common.ROOT / f"configs/8b/{name}.yaml").read_text()
    args = [command, common.ROOT / f"configs/8b/{name}.yaml", f"model={model}",
            f"tokenizer={common.ROOT}/tests/fixtures/prefer/model", f"data.eval={lines}",
            f"data.{'train' if command == 'prefer' else 'prompts'}={lines}"]
    args += [f"reward.model={reward}"] if "\nreward:" in source else []
    args += [f"method.{key}={common.ROOT}/configs/principles/{file}.txt"
             for key, file in (("principles", "kind_and_helpful"), ("contrary", "contrary"))
             if f"  {key}: " in source]
    return plan(bench, args, "plan.world_size=8", "plan.memory=1TB", *more)


def test_8b(bench):
    """Checks that two configurations for 8 B parameters can be planned without a GPU, without a
    CUDA build and without the memory of the model: for the CPU, and as they are, for GPUs in
    bfloat16. The sizes are computed by hand: matrices that multiply take 2 bytes per element,
    everything else takes 4."""
    count, embedding, norms = 8030261248, 128256 * 4096, 65 * 4096
    for name in ("psle", "prefer_dpo"):
        p = plan_8b(bench, name, "device=cpu", "dtype=float32", "plan.memory=150GB")
        bench.check(held(p, "weights", "policy") > 4 * 8e9, name, p)
        p = plan_8b(bench, name, "plan.memory=250GB")
        packed, wide = held(p, "packed weights", "policy"), held(p, "weights", "policy")
        # psle trains an adapter on a frozen base: all weights are held only in bfloat16, except the
        # norms, which are held in float32. prefer_dpo trains all weights: all are held in float32,
        # and all but the norms and the embedding also in bfloat16.
        whole, narrow = (norms, 0) if name == "psle" else (count, embedding)
        bench.check(0 <= packed - 2 * (count - narrow - norms) <= GUARD and p["fits"], name, p)
        bench.check(0 <= wide - 4 * whole <= 16384 + GUARD, name, "float32 weights:", wide)
        bench.check(p["margin"] == 512 << 20 and p["device"] == "cuda bfloat16", name, p)
    # the unchanged files fit into 8 GPUs of 80 GB
    for name in ("psle", "dpo_lora", "prefer_dpo_lora"):
        p = plan_8b(bench, name, "plan.memory=80GB", f"data.{'train' if 'prefer' in name else 'prompts'}=none.jsonl")
        bench.check(p["fits"] and p["frozen"] == "resident", name, "needs", p["bytes_with_host"], p["frozen"])
    # LoRA on one GPU with 64 sequences of 1,024 tokens, first with a reward model of 8 B
    # parameters, then without one
    one = ["plan.world_size=1", "slots=64", "data.prompts=none.jsonl", "data.eval=none.jsonl",
           "data.max_prompt_tokens=512"]
    for most, *more in ((45e9,), (30e9, "reward.model=", "reward.functions=[{name: length, target: 60}]")):
        p = plan_8b(bench, "psle", "plan.memory=80GB", *one, *more)
        bench.check(p["bytes_with_host"] <= most and p["fits"], "one GPU:", most, p["bytes_with_host"])
    # training of all weights on 8 GPUs, with the reward model sharded, and 128 sequences of 1,024
    # tokens
    full = ["lora.r=0", "data.prompts=none.jsonl", "data.eval=none.jsonl", "data.max_prompt_tokens=512",
            "kl_to_start=false", "frozen=sharded", "train.shard=gradients"]
    p = plan_8b(bench, "psle", "plan.memory=80GB", *full)
    bench.check(p["bytes_with_host"] <= 52e9 and p["fits"], "8 GPUs:", p["bytes_with_host"])
    bench.check(0 <= held(p, "master weights") - count // 2 <= 8 << 20 and held(p, "weights", "policy") <= 4 * norms + 16384 + GUARD,
                "masters:", p)
    host = plan_8b(bench, "prefer_dpo", "plan.memory=250GB", "offload_moments=true")
    moments = [r["bytes"] for r in host["rows"] if r["host"] and r["what"].endswith(" moments")]
    bench.check(len(moments) == 2 and all(0 <= m - count // 2 <= 65536 for m in moments), "host:", moments)
    if not bench.good("doctor").out.count("cuda"):
        r = bench.run("plan", "sft", f"model={bench.folder / '8b'}", "device=cuda")
        bench.check(r.code == 12 and "plan.memory=80GB" in r.err, "whose memory?", r)


def test(bench):
    test_runs(bench)
    test_free(bench)
    test_fit(bench)
    test_fit_tokens(bench)
    test_refused(bench)
    test_config_alone(bench)
    test_time(bench)
    test_methods(bench)
    test_stages(bench)
    test_8b(bench)


if __name__ == "__main__":
    common.main(test)
