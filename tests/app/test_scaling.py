#!/usr/bin/env python3
"""test_scaling.py: checks benchmarks/scaling. For 1 to 1,024 ranks, the counted messages and bytes on the longest path of
an exchange and of the start-up are those of a formula. No memory grows with ranks x ranks or ranks x parameters. The
heartbeat and the small collectives take less than 1 % of an iteration. A small measurement writes its table, and 2 ranks
send as many messages and bytes as counted. No measured time is checked."""
import json
import subprocess
import sys
import xml.etree.ElementTree

import common

SCALING = common.ROOT / "benchmarks/scaling"
sys.path.insert(0, str(SCALING))
import predict  # noqa: E402
import scaling  # noqa: E402


def replayed(bench, schedule):
    for elements in (1, 4096, 1_000_003, 8_030_261_248):
        for ranks in (1, 2, 4, 8, 64, 256, 1024):
            found, want = schedule.exchange(ranks, elements), predict.formula(ranks, elements, scaling.BLOCK)
            # With fewer blocks than ranks, some pieces have one block only. Their upper half is
            # empty and is not sent, so the formula does not hold.
            if elements >= ranks * scaling.BLOCK:
                bench.check(tuple(found) == want, ranks, elements, found, want)
            of = schedule.of(ranks, elements)
            rounds = ranks.bit_length() - 1
            bench.check(of["barrier"]["messages"] == of["agree"]["messages"] == ranks * rounds, ranks, of)
            bench.check(of["broadcast"]["messages"] == ranks - 1 and of["broadcast"]["path_messages"] == rounds, ranks, of)
            # In the halvings, every element is sent by all ranks but one; in the doublings again.
            for part in ("reduce_tree", "allgather_shards"):
                bench.check(of[part]["bytes"] == 4 * elements * (ranks - 1), part, ranks, elements, of)
    # ranks above a power of two send one message before the tree and get one after it
    for ranks in (3, 5, 6, 1000):
        half = 1 << (ranks.bit_length() - 1)
        inner, outer = (schedule.of(r, 10_000_000)["reduce_tree"]["path_messages"] for r in (half, ranks))
        bench.check(outer == inner + 1, ranks, inner, outer)


def many_ranks(bench, start):
    """Checks what a rank needs when there are 1 to 1,024 ranks, as bench_start counts it with
    the code of src/comm."""
    for ranks in (1, 2, 4, 8, 64, 256, 1024):
        x, want = start.of(ranks), predict.start_formula(ranks)
        bench.check(x["start"]["path_messages"] == x["start"]["messages_of_busiest_rank"] == want, ranks, x["start"], want)
        bench.check(x["start"]["messages"] == ranks * want, ranks, x["start"])
        bench.check(x["allgather"]["messages"] == 2 * ranks * (ranks.bit_length() - 1), ranks, x["allgather"])
        beat, cost = x["heartbeat"], start.costs(ranks, 5e-6)
        bench.check(beat["notes_per_period"] == beat["notes_of_a_wait"] == ranks - 1 and beat["bytes_per_note"] <= 256, ranks, beat)
        bench.check(beat["period_s"] >= 1 and cost["heartbeat_share"] <= 0.005, ranks, cost)
    # These use a ring: each rank sends ranks - 1 messages, after an allreduce of the sizes.
    for ranks in (3, 5, 6):
        half = 1 << (ranks.bit_length() - 1)
        sizes = half * (half.bit_length() - 1) + 2 * (ranks - half)
        bench.check(start.of(ranks)["allgather"]["messages"] == ranks * (ranks - 1) + sizes, ranks, start.of(ranks))
    memory = {ranks: start.of(ranks)["memory"] for ranks in (256, 512, 1024)}
    per_rank = (memory[1024]["bytes"] - memory[512]["bytes"]) / 512
    bench.check(per_rank == (memory[512]["bytes"] - memory[256]["bytes"]) / 256 <= 1024, "a line:", memory)
    bench.check(len({m["allocations"] for m in memory.values()}) == 1, "allocations:", memory)


def planned(bench, base):
    """Checks the plan: a rank of 1,024 ranks needs no more memory than a rank of 8 with as many
    micro-batches per rank."""
    for shard in ("optimizer", "gradients"):
        need = {}
        for ranks in (8, 1024):
            out = bench.folder / "plan.json"
            bench.good("plan", "sft", f"model={base}", "plan.memory=1GB", f"plan.world_size={ranks}", "data.max_tokens=32",
                       f"train.global_batch_size={2 * ranks}", "train.micro_batch_size=1", f"train.shard={shard}", f"output={out}")
            need[ranks] = json.loads(out.read_text())["bytes"]
        bench.check(need[1024] <= need[8], shard, need)


def arithmetic(bench, schedule):
    """Checks functions of predict.py with inputs whose result is known."""
    bench.check(predict.imbalance([5, 5, 5], 64, 8) == 1, "equal lengths are balanced")
    bench.check(2.5 < predict.imbalance([0, 0, 0, 8], 8, 8) <= 4, "one long answer of four, one prompt a rank")
    bench.check(abs(predict.line([(1, 3), (2, 5), (4, 9)])(10) - 21) < 1e-9, "line through 2x + 1")
    link = predict.Link(1e-6, [(1000, 1e-9), (100_000, 3e-9)])
    bench.check(link.per_byte(10) == 1e-9 and link.per_byte(10**9) == 3e-9 and abs(link.per_byte(10_000) - 2e-9) < 1e-15, "interpolation")
    model = predict.Model([(8, {"rollout": 4, "reward": 1, "reference": 1, "train": 2, "other": 0.5})], [3, 3], 2, 8 * 4096,
                          (10, 800), predict.Link(1e-3, [(1, 1e-9)]), schedule)
    two = model.iteration(2, 8)
    bench.check(abs(two["rollout"] - 2) < 1e-9 and abs(two["exchange"] - 2 * (2 * 1e-3 + 8 * 4096 * 4 * 1e-9)) < 1e-9, two)
    bench.check(abs(two["control"] - (10 * 1e-3 + 800e-9)) < 1e-9, two)


def measured(bench):
    base, out = bench.base(), bench.folder / "scaling"
    config = bench.folder / "scaling.yaml"
    config.write_text(f"model: {base}\ndata:\n  prompts: {bench.world}/prompts.jsonl\nmethod:\n  name: raft\n"
                      "generate:\n  max_new_tokens: 8\n  group_size: 2\nreward:\n  functions:\n    - {name: length, target: 4}\n")
    done = subprocess.run([sys.executable, SCALING / "scaling.py", "--ranks", "2", "--prompts", "8", "--repeat", "1", "--iterations", "2",
                           "--build", bench.plumb.parent, "--config", config, "--work", bench.folder / "work", "--out", out,
                           "--project", "4", "--peak", "1"],
                          text=True, capture_output=True, timeout=600, check=False)
    bench.check(done.returncode == 0, done.stdout, done.stderr)
    results = json.loads(out.with_suffix(".json").read_text())
    bench.check([(r["mode"], r["ranks"], r["prompts"]) for r in results["rows"]] ==
                [("strong", 1, 8), ("strong", 2, 8), ("weak", 1, 8), ("weak", 2, 16)], results["rows"])
    for row in results["rows"]:
        bench.check(all(row[k] > 0 for k in ("rollout_s", "train_s", "iteration_s", "tokens_per_second", "predicted_s", "efficiency", "mfu")), row)
        bench.check((row["bytes"] > 0) == (row["ranks"] == 2), row)
        bench.check(row["iteration_s"] <= row["p95_s"] and row["nodes"] == 1, row)
    bench.check(results["elements"] > 0 and results["control_collectives"] > 0 and results["control_bytes"] > 0, results)
    bench.check([r["ranks"] for r in results["predicted"]] == [1, 2, 4], results["predicted"])
    text = out.with_suffix(".md").read_text()
    bench.check("# plumb " in text and "# Scaling" in text and "predictions, not measurements" in text, text)
    xml.etree.ElementTree.parse(out.with_suffix(".svg"))


def assumed(bench):
    """Checks a prediction from assumed times (--assume): strong scaling ends at the number of ranks
    with less than one prompt each."""
    out = bench.folder / "assumed"
    base = json.loads((SCALING / "8b-lora-h200.json").read_text())
    (bench.folder / "assume.json").write_text(json.dumps({**base, "strong_prompts": 8}))
    done = subprocess.run([sys.executable, SCALING / "scaling.py", "--assume", bench.folder / "assume.json", "--build",
                           bench.plumb.parent, "--out", out, "--project", "16"], text=True, capture_output=True, timeout=100, check=False)
    bench.check(done.returncode == 0, done.stdout, done.stderr)
    rows = json.loads(out.with_suffix(".json").read_text())["predicted"]
    bench.check(["strong" in r for r in rows] == [True] * 4 + [False] and all("weak" in r for r in rows), rows)
    bench.check(all(a["weak"]["efficiency"] > b["weak"]["efficiency"] for a, b in zip(rows, rows[1:])), rows)
    if (bench.plumb.parent / "benchmarks/bench_start").exists():
        shares = [r["rank"][f"{mode}_share"] for r in rows for mode in ("strong", "weak") if mode in r]
        bench.check(shares[0] == 0 and all(0 < s < 0.01 for s in shares[2:]), "heartbeat and small collectives:", shares)
        bench.check("| 16 |" in out.with_suffix(".md").read_text().split("## What a rank needs")[1], "the table of a rank is missing")
    bench.check("Assumed, not measured" in out.with_suffix(".md").read_text(), "the sources of the assumptions are missing")


def test(bench):
    bench.make_world(pairs=64, prompts=64)
    schedule = predict.Schedule(str(bench.plumb.parent / "benchmarks/bench_schedule"))
    replayed(bench, schedule)
    # a build without MPI has no bench_start
    if (bench.plumb.parent / "benchmarks/bench_start").exists():
        many_ranks(bench, predict.Start(str(bench.plumb.parent / "benchmarks/bench_start")))
    planned(bench, bench.base())
    arithmetic(bench, schedule)
    assumed(bench)
    if bench.mpirun:
        measured(bench)


if __name__ == "__main__":
    common.main(test)
