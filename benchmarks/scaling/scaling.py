#!/usr/bin/env python3
"""scaling.py - measures and predicts weak and strong scaling of `plumb align`.

  python3 benchmarks/scaling/scaling.py --ranks 1,2 --out benchmarks/results/scaling

Runs each number of ranks several times. Strong scaling keeps the number of prompts of an
iteration, weak scaling keeps the number of prompts of a rank. Writes OUT.md (a table in the
style of nccl-tests), OUT.json with the same names, and OUT.svg. Without --config it makes a
small data set and a small model under --work. Runs on a single rank, with the prompts that one
rank has with each number of ranks, give the predicted curve (predict.py), up to --project ranks.
See README.md in this folder. Needs the standard library only."""
import argparse
import json
import os
import pathlib
import platform
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import time

import chart
import predict

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCK = 4096  # value of PLUMB_SHARD_BLOCK in src/comm/comm.h
COLUMNS = (  # name in the JSON file, heading, format
    ("mode", "mode", "s"), ("ranks", "ranks", "d"), ("nodes", "nodes", "d"), ("prompts", "prompts", "d"),
    ("rollout_s", "rollout", ".3f"), ("reward_s", "reward", ".3f"), ("train_s", "train", ".3f"),
    ("exchange_s", "exchange", ".4f"), ("wait_s", "wait", ".4f"), ("iteration_s", "iteration", ".3f"),
    ("p50_s", "p50", ".3f"), ("p95_s", "p95", ".3f"), ("tokens_per_second", "tok/s", ".0f"),
    ("tokens_per_second_per_rank", "tok/s/rank", ".0f"), ("mfu", "MFU", ".3f"), ("efficiency", "efficiency", ".3f"),
    ("messages", "messages", ".0f"), ("bytes", "bytes", ".0f"), ("predicted_s", "predicted", ".3f"),
    ("error", "error", "+.1%"))


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--ranks", default="1,2", help="numbers of ranks, separated by commas; 1 is added")
    p.add_argument("--modes", default="strong,weak")
    p.add_argument("--build", default=str(ROOT / "build"), help="build folder")
    p.add_argument("--config", help="configuration of plumb align; default: a small world made under --work")
    p.add_argument("--work", default=str(ROOT / "runs/scaling"), help="folder of the runs")
    p.add_argument("--out", default=str(ROOT / "runs/scaling/scaling"), help="results, without ending")
    p.add_argument("--prompts", type=int, default=64, help="prompts of an iteration on one rank (weak) or in all (strong)")
    p.add_argument("--steps", type=int, default=2, help="optimizer steps of an iteration")
    p.add_argument("--warmup", type=int, default=1, help="first iterations of each run that are not counted")
    p.add_argument("--iterations", type=int, default=3, help="iterations that are counted")
    p.add_argument("--repeat", type=int, default=3, help="runs of each point")
    p.add_argument("--launcher", help="command before plumb, with {ranks}; default: mpirun, one core per rank; "
                                      "srun and 'sbatch --wait --ntasks={ranks} launch/slurm.sbatch' work as well")
    p.add_argument("--peak", type=float, default=0, help="peak of a rank in GFLOP/s, for the MFU column; 0: leave it out")
    p.add_argument("--project", type=int, default=1024, help="largest number of ranks of the predicted curve")
    p.add_argument("--assume", help="predict only, from a JSON file of assumed single-rank times and links (8b-h200.json)")
    p.add_argument("option", nargs="*", help="further options of plumb (key=value)")
    return p.parse_args()


class Bench:
    def __init__(self, args):
        self.args = args
        self.work = pathlib.Path(args.work).resolve()
        self.plumb = pathlib.Path(args.build).resolve() / "plumb"
        self.programs = pathlib.Path(args.build).resolve() / "benchmarks"
        self.cores = len(os.sched_getaffinity(0))

    def launcher(self, ranks):
        if self.args.launcher:
            return shlex.split(self.args.launcher.format(ranks=ranks))
        bind = ["--bind-to", "core"] if ranks <= self.cores else ["--bind-to", "none", "--oversubscribe"]
        root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
        return ["mpirun", "-n", str(ranks), *bind, *root]

    def shares_cores(self, row):
        """Returns true if the ranks of this row had to share cores. Its times then say nothing about
        scaling."""
        return not self.args.launcher and row["ranks"] > self.cores

    def run(self, command, **more):
        done = subprocess.run([str(c) for c in command], cwd=ROOT, text=True, capture_output=True, **more)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def base(self):
        """Returns the options for model, prompts and method: the file --config, or those of a small task and model
        that the script makes."""
        if self.args.config:
            return [self.args.config]
        world, model = self.work / "world", self.work / "model"
        if not (model / "latest").exists():
            shutil.rmtree(model, ignore_errors=True)
            self.run([self.plumb.with_name("plumb-world"), "make", world, 1])
            self.run([self.plumb, "sft", f"model={world}", f"data.train={world}/sft.jsonl", f"output_dir={model}",
                      "train.init=random", "train.max_steps=60", "train.learning_rate=2e-3", "train.global_batch_size=32",
                      "checkpoint.every=0"])
        return [f"model={model}/latest", f"data.prompts={world}/prompts.jsonl", "method.name=psle",
                f"method.principles={world}/principles/kind_and_helpful.txt", f"reward.model={self.reward(world, model)}",
                "generate.max_new_tokens=48", "generate.group_size=4", "generate.slots=32", "train.learning_rate=1e-5"]

    def reward(self, world, model):
        out = self.work / "reward"
        if not (out / "latest").exists():
            shutil.rmtree(out, ignore_errors=True)
            self.run([self.plumb, "reward", f"model={model}/latest", f"data.train={world}/pairs.jsonl", f"output_dir={out}",
                      "train.max_steps=10", "checkpoint.every=0"])
        return out / "latest"

    def align(self, ranks, prompts, name):
        """Makes one run of `plumb align`. Returns the rows of metrics.jsonl that count, each with its
        number of optimizer steps."""
        out = self.work / "runs" / name
        shutil.rmtree(out, ignore_errors=True)
        step = max(prompts // self.args.steps, 1)
        self.run([*self.launcher(ranks), self.plumb, "align", *self.base(), f"output_dir={out}",
                  f"train.iterations={self.args.warmup + self.args.iterations}", f"train.prompts_per_iteration={prompts}",
                  f"train.global_batch_size={step}", "train.micro_batch_size=1", "threads=1", "checkpoint.every=0",
                  "report.html=false", "log_level=warn", *self.args.option])
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        nodes = len(set(json.loads((out / "run.json").read_text())["sessions"][-1]["hosts"]))
        for before, row in zip([{"step": 0, "num_tokens": 0, "generated_tokens": 0}] + rows, rows):
            row["steps"], row["tokens"] = row["step"] - before["step"], row["num_tokens"] - before["num_tokens"]
            row["generated"] = row["generated_tokens"] - before["generated_tokens"]
            row["nodes"] = nodes
        return rows[self.args.warmup:]

    def lengths(self, name):
        """Returns the number of completion tokens of each prompt in the last iteration of a
        single-rank run."""
        file = max((self.work / "runs" / name / "rollouts").glob("iteration-*.rank-0.h5"))

        def column(what):
            text = self.run(["h5dump", "-y", "-w", "1000000", "-d", what, file])
            body = text[text.index("DATA {") + 6:].split("}")[0]
            return [int(x) for x in body.replace(",", " ").split()]

        ends, prompt = column("/logprob_offsets"), column("/prompt_id")
        total = {}
        for p, begin, end in zip(prompt, ends, ends[1:]):
            total[p] = total.get(p, 0) + end - begin
        return list(total.values())

    def parameters(self, name):
        """Returns the number of floats of the trained model, from the headers of its safetensors files."""
        count = 0
        for file in (self.work / "runs" / name / "latest").glob("*.safetensors"):
            with file.open("rb") as f:
                header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
            for tensor in (v for k, v in header.items() if k != "__metadata__"):
                n = 1
                for d in tensor["shape"]:
                    n *= d
                count += n
        return count


def parts(row):
    """Returns the seconds of one iteration by phase. The collectives of the training phase are a separate entry."""
    t = {k.removeprefix("time/"): v for k, v in row.items() if k.startswith("time/")}
    phase = {k: t[k] for k in ("rollout", "reward", "reference")}
    phase["train"] = t["train"] - t["exchange"]
    phase["exchange"], phase["wait"], phase["iteration"] = t["exchange"], t["wait"], t["iteration"]
    phase["other"] = t["iteration"] - sum(t[k] for k in ("rollout", "reward", "reference", "train"))
    return phase


def quantile(values, q):
    values = sorted(values)
    return values[min(int(q * len(values)), len(values) - 1)]



def point(bench, mode, ranks, prompts, parameters):
    """Runs one combination of mode, ranks and prompts `repeat` times. Returns its row of the
    table."""
    rows, tail = [], f"{mode}-{ranks}-{prompts}"
    for i in range(bench.args.repeat):
        rows += bench.align(ranks, prompts, f"{tail}-{i}")
        print(f"{mode} on {ranks} ranks, run {i + 1} of {bench.args.repeat}: "
              f"{rows[-1]['time/iteration']:.2f} s per iteration", file=sys.stderr, flush=True)
    phase = [parts(r) for r in rows]
    mid = {k: statistics.median(p[k] for p in phase) for k in phase[0]}
    whole = [p["iteration"] for p in phase]
    tokens = statistics.median(r["tokens"] / r["time/iteration"] for r in rows)
    parameters = parameters or bench.parameters(f"{tail}-0")
    # 2 FLOP per parameter and token forward, 4 backward; num_tokens counts generated and trained tokens.
    flop = statistics.median((2 * r["generated"] + 6 * (r["tokens"] - r["generated"])) * parameters for r in rows)
    return {"mode": mode, "ranks": ranks, "nodes": rows[-1]["nodes"], "prompts": prompts, "steps": rows[-1]["steps"],
            "rollout_s": mid["rollout"], "reward_s": mid["reward"] + mid["reference"], "train_s": mid["train"],
            "exchange_s": mid["exchange"], "wait_s": mid["wait"], "iteration_s": mid["iteration"],
            "p50_s": quantile(whole, 0.5), "p95_s": quantile(whole, 0.95), "tokens_per_second": tokens,
            "tokens_per_second_per_rank": tokens / ranks,
            "mfu": flop / mid["iteration"] / ranks / (bench.args.peak * 1e9) if bench.args.peak else None,
            "messages": statistics.median(r["comm/messages"] for r in rows),
            "bytes": statistics.median(r["comm/bytes"] for r in rows), "phases": mid}


def table(rows, header):
    cells = [[heading for _, heading, _ in COLUMNS]]
    for row in rows:
        cells.append([format(row[k], f) if row.get(k) is not None else "-" for k, _, f in COLUMNS])
    width = [max(len(c[i]) for c in cells) for i in range(len(COLUMNS))]
    lines = [" ".join(c.rjust(w) for c, w in zip(line, width)) for line in cells]
    return [f"# {line}" for line in header] + [f"#{lines[0]}"] + [f" {line}" for line in lines[1:]]


def header(bench):
    version = bench.run([bench.plumb, "--version"]).strip().splitlines()[0]
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return [version, f"{time.strftime('%Y-%m-%d')}, host {platform.node()}: {bench.cores} cores, {model}",
            f"launcher: {' '.join(bench.launcher(2))}; 1 thread per rank",
            f"{bench.args.repeat} runs of {bench.args.warmup} + {bench.args.iterations} iterations, {bench.args.steps} optimizer "
            "steps each; medians over all counted iterations",
            "seconds per iteration; exchange and wait as rank 0 sees them; messages and bytes sent by rank 0 per iteration"]


def measure(bench, ranks):
    """Measures every row. Returns (rows of the table, {prompts: row of a single-rank run})."""
    p, rows, single = bench.args.prompts, [], {}
    modes = bench.args.modes.split(",")
    shares = {p} | ({p // w for w in ranks} if "strong" in modes else set())
    for share in sorted(shares, reverse=True):
        single[share] = point(bench, "single", 1, share, None)
    for mode in modes:
        for w in ranks:
            prompts = p if mode == "strong" else p * w
            row = dict(single[p], mode=mode) if w == 1 else point(bench, mode, w, prompts, None)
            scale = w if mode == "strong" else 1
            row["efficiency"] = single[p]["iteration_s"] / (scale * row["iteration_s"])
            rows.append(row)
    return rows, single


def fit(bench, rows, single):
    """Returns the Model of predict.py and its inputs, from single-rank runs, bench_probe, and the messages
    counted on 2 ranks."""
    args, schedule = bench.args, predict.Schedule(str(bench.programs / "bench_schedule"))
    two = next((r for r in rows if r["ranks"] == 2), None)
    if not two:
        return None
    probe = json.loads(bench.run([*bench.launcher(2), bench.programs / "bench_probe"]))
    name = f"single-1-{args.prompts}-0"
    elements = bench.parameters(name)
    messages, size = schedule.exchange(2, elements)
    control = two["messages"] - two["steps"] * messages, two["bytes"] - two["steps"] * size
    model = predict.Model([(p, r["phases"]) for p, r in single.items()], bench.lengths(name), two["steps"], elements, control,
                          predict.Link.probed(probe, schedule), schedule)
    return {"model": model, "probe": probe, "elements": elements, "control_collectives": control[0], "control_bytes": control[1]}


def costs(start, model, ranks, modes):
    """Returns what each of `ranks` ranks needs: memory, messages of the start-up, heartbeat. Adds, for each
    mode, the share of an iteration that is taken by the small collectives, by the hashes of a sharded
    fingerprint in each step, and by the heartbeat."""
    out = start.costs(ranks, model.link.latency)
    if ranks > 1 and ranks & (ranks - 1) == 0 and out["start_messages"] != predict.start_formula(ranks):
        sys.exit(f"{ranks} ranks: the start has {out['start_messages']} messages on its longest path, "
                 f"the formula {predict.start_formula(ranks)}")
    small = model.steps * out["row_messages"] * model.link.latency
    out["agree_s"] = model.schedule.of(ranks, 1)["agree"]["path_messages"] * model.link.latency
    for mode, t in modes.items():
        out[f"{mode}_share"] = (t["control"] + small) / t["iteration"] + out["heartbeat_share"]
    return out


def project(bench, fitted):
    """Returns the predicted rows up to --project ranks. Compares the counted messages of an exchange with the formula.
    Strong scaling ends at the number of ranks with less than one prompt each."""
    model, args = fitted["model"], bench.args
    strong = fitted.get("strong_prompts", args.prompts)
    base = {"strong": model.iteration(1, strong)["iteration"], "weak": model.iteration(1, args.prompts)["iteration"]}
    program = bench.programs / "bench_start"
    # a build without MPI has no bench_start
    start = predict.Start(str(program)) if program.exists() else None
    out, w = [], 1
    while w <= args.project:
        row = {"ranks": w}
        for mode in args.modes.split(","):
            if mode == "strong" and w > strong:
                continue
            t = model.iteration(w, args.prompts * w if mode == "weak" else strong)
            row[mode] = {"efficiency": base[mode] / ((w if mode == "strong" else 1) * t["iteration"]), **t}
        replayed, expected = model.schedule.exchange(w, model.elements), predict.formula(w, model.elements, BLOCK)
        if tuple(replayed) != expected:
            sys.exit(f"{w} ranks: the replayed schedule has (messages, bytes) {replayed} on its longest path, the formula {expected}")
        row["path_messages"], row["path_bytes"] = replayed
        if start:
            row["rank"] = costs(start, model, w, {m: row[m] for m in row if m in ("strong", "weak")})
        out.append(row)
        w *= 2
    return out


def assumed(bench):
    """Returns the Model for the JSON file --assume. The lengths of completions are drawn from an exponential
    distribution, cut at the longest length, and summed over the completions of a prompt."""
    a = json.loads(pathlib.Path(bench.args.assume).read_text())
    bench.args.prompts, rng, of = a["prompts"], random.Random(1), a["lengths"]
    lengths = [sum(min(rng.expovariate(1 / of["mean"]), of["longest"]) for _ in range(of["completions"])) for _ in range(10000)]
    control = a["control"]["collectives"], a["control"]["bytes"]
    link = predict.Link(a["latency_s"], [(1, 1 / a["bytes_per_second"])])
    model = predict.Model([(a["prompts"], a["single"])], lengths, a["steps"], a["elements"], control, link,
                          predict.Schedule(str(bench.programs / "bench_schedule")))
    return {"model": model, "assumed": a, "strong_prompts": a["strong_prompts"], "elements": a["elements"], "control_collectives": control[0], "control_bytes": control[1]}


def rank_table(projected, latency, modes):
    """Returns the lines of the table about memory, start-up, heartbeat and agreement of a rank. Returns
    none if bench_start did not run."""
    if not all("rank" in row for row in projected):
        return []
    lines = ["", "## What a rank needs among many", "",
             f"Counted by the code of src/comm for every rank in one process (`bench_start`), times {latency * 1e6:.3g} us per message. "
             "Memory is that of a communicator, without MPI's own and without what the ranks of a host share; it grows by one row per rank "
             "and not with the model (`app scaling` also checks that the plan of a rank needs no more on 1,024 ranks than on 8). Start: the messages after `MPI_Init` until the first collective, on the longest path, which "
             "equals the formula. A heartbeat note is sent to every other rank once per period; its time counts twice, where it is sent "
             "and where it is received. agree: one call, on the longest path. Share: of an iteration, taken by all small collectives, by "
             "the gathered hashes of each step (`train.shard: gradients`) and by the heartbeat. A rank that has waited for 0.05 s in a "
             "collective also sends one note to each other rank.", "",
             "| ranks | memory, kB | start: messages | kB sent | ms | heartbeat: period, s | notes per s | kB/s | % of the time | agree, us |"
             + "".join(f" share, {m}, % |" for m in modes), "|---|" + "---|" * (9 + len(modes))]
    for row in projected:
        x = row["rank"]
        cells = [f"{row['ranks']}", f"{x['memory_bytes'] / 1e3:.0f}", f"{x['start_messages']:.0f}", f"{x['start_bytes'] / 1e3:.1f}",
                 f"{1e3 * x['start_s']:.3f}", f"{x['period_s']:.3f}", f"{x['notes_per_second']:.0f}",
                 f"{x['bytes_per_second'] / 1e3:.1f}", f"{100 * x['heartbeat_share']:.3f}", f"{1e6 * x['agree_s']:.0f}"]
        cells += [f"{100 * x[m + '_share']:.3f}" if m + "_share" in x else "-" for m in modes]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def write(bench, rows, fitted, projected):
    out = pathlib.Path(bench.args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = ["# Scaling of plumb align", "", "    " + " ".join(["python3", "benchmarks/scaling/scaling.py", *sys.argv[1:]]), ""]
    if rows:
        lines += ["    " + line for line in table(rows, header(bench))]
        if any(bench.shares_cores(r) for r in rows):
            lines += ["", f"With more than {bench.cores} ranks the ranks share cores: of those rows only the messages and bytes count, and no time is predicted."]
    else:
        lines += [fitted["assumed"]["name"], "", *(f"- {line}" for line in fitted["assumed"]["sources"])]
    series = [(f"{m}, measured", False, [(r["ranks"], r["efficiency"]) for r in rows if r["mode"] == m])
              for m in bench.args.modes.split(",") if rows]
    if projected:
        lines += ["", "## Predicted", "", f"{fitted['elements']} floats are exchanged per optimizer step; "
                  f"{fitted['control_collectives']:.0f} small collectives per iteration. The longest path of a step's exchange, as "
                  "replayed for every rank, equals the formula. The predicted rows are predictions, not measurements.", "",
                  "| ranks | path, messages | path, bytes |" + "".join(
                      f" {m}: iteration, s | imbalance | exchange, s | control, s | efficiency |" for m in bench.args.modes.split(",")),
                  "|---|---|---|" + "---|---|---|---|---|" * len(bench.args.modes.split(","))]
        for row in projected:
            cells = [f"{row['ranks']}", f"{row['path_messages']:.0f}", f"{row['path_bytes']:.0f}"]
            for t in (row.get(m) for m in bench.args.modes.split(",")):
                cells += [f"{t['iteration']:.3f}", f"{t['imbalance']:.2f}", f"{t['exchange']:.4f}", f"{t['control']:.4f}",
                          f"{t['efficiency']:.3f}"] if t else ["-"] * 5
            lines.append("| " + " | ".join(cells) + " |")
        lines += rank_table(projected, fitted["model"].link.latency, bench.args.modes.split(","))
        series += [(f"{m}, predicted", True, [(r["ranks"], r[m]["efficiency"]) for r in projected if m in r]) for m in bench.args.modes.split(",")]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    clean = [{k: v for k, v in r.items() if k != "phases"} for r in rows]
    extra = {k: v for k, v in (fitted or {}).items() if k != "model"}
    out.with_suffix(".json").write_text(json.dumps({"header": header(bench) if rows else [], "rows": clean, "predicted": projected, **extra}, indent=1) + "\n")
    out.with_suffix(".svg").write_text(chart.draw(series, "parallel efficiency of an iteration"))
    if rows:
        print("\n".join(table(rows, header(bench))))
    print(f"written: {out}.md, {out}.json, {out}.svg")


def main():
    args = arguments()
    ranks = sorted({1, *map(int, args.ranks.split(","))})
    bench = Bench(args)
    if args.assume:
        fitted = assumed(bench)
        write(bench, [], fitted, project(bench, fitted))
        return
    rows, single = measure(bench, ranks)
    fitted = fit(bench, rows, single)
    for row in rows if fitted else []:
        if bench.shares_cores(row):
            continue
        row["predicted_s"] = fitted["model"].iteration(row["ranks"], row["prompts"])["iteration"]
        row["error"] = row["predicted_s"] / row["iteration_s"] - 1
    write(bench, rows, fitted, project(bench, fitted) if fitted else [])


if __name__ == "__main__":
    main()
