"""exact.py - shared by the scripts of this folder: the jobs, the files of a run that must not
depend on the number of ranks, threads or kills, and how to find the ranks of a running job.
Needs the standard library only."""
import argparse
import array
import contextlib
import json
import math
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "app"))
import chat_world  # noqa: E402
import common  # noqa: E402

WORLDS = (1, 2, 4, 8)

LENGTH = "reward.functions=[{{name: length, target: 12}}, {{name: repetition, weight: 0.3}}]"

# ---- the methods: a new one is one line ---------------------------------------------------------

# name: (command, options). Batch sizes do not divide the number of records, so that the last step
# is smaller. The number of micro-batches is no power of two.
METHODS = {
    "sft": ("sft", ["lr_schedule=cosine", "warmup_ratio=0.2", "weight_decay=0.1"]),
    "reward": ("reward", ["lr_schedule=linear", "weight_decay=0.01"]),
    "psle, hinge": ("align", []),
    "psle, dpo, quantile": ("align", [
        "method.rank_loss=dpo", "method.threshold=quantile", "method.quantile_start=0.2",
        "method.quantile_end=0.8", "method.reverse=swap", "method.label_smoothing=0.1"]),
    "psle, quantile, tokens": ("align", [
        "method.threshold=quantile", "method.quantile_start=0.2", "method.quantile_end=0.8",
        "train.generated_tokens=2700", "iterations=9"]),
    "psle, logistic, mean_decay": ("align", [
        "method.rank_loss=logistic", "method.threshold=mean_decay", "method.mean_k=0.5",
        "method.reward_norm=sigmoid", "method.length_normalize=false", "top_p=0.9"]),
    "psle, hinge_prob, no threshold": ("align", [
        "method.rank_loss=hinge_prob", "method.threshold=none", "temperature=0.7", "top_k=20",
        "method.weighted_loss=principled_only", "kl_to_start=false", "epochs=2"]),
    "context_distillation": ("align", ["method.name=context_distillation"]),
    "raft": ("align", ["method.name=raft", "lr_schedule=cosine"]),
    "psle_curriculum": ("align", ["method.name=psle_curriculum", "method.quantile_start=0.9"]),
    "vcb": ("align", ["method.name=vcb", "method.lambda=0.5"]),
    "dpo": ("align", ["method.name=dpo", "epochs=2"]),
    "ipo": ("align", ["method.name=ipo"]),
    "rdo": ("align", ["method.name=rdo", "method.label_smoothing=0.1"]),
    "aps": ("align", ["method.name=aps"]),
    "rrhf": ("align", ["method.name=rrhf"]),
    "lire": ("align", ["method.name=lire"]),
    "pro": ("align", ["method.name=pro"]),
    "spa": ("align", ["method.name=spa", "model={seed}", "method.judge={base}", "noise_start=0",
                      "noise_share=0.3", "noise_window=7"]),
    "real, easy": ("align", ["method.name=real"]),
    "real, centroid": ("align", ["method.name=real", "method.pick=centroid"]),
    "optune": ("align", ["method.name=optune", "method.renew=0.4", "kl_to_start=false"]),
    "optune, tokens": ("align", ["method.name=optune", "method.renew=0.4", "kl_to_start=false",
                                 "train.generated_tokens=2700", "iterations=9"]),
    "selm": ("align", ["method.name=selm", "method.optimism=0.1"]),
    "spa, previous": ("align", ["method.name=spa", "model={seed}", "method.judge={base}",
                                "method.reference=previous", "noise_share=0.3", "epochs=2"]),
    "selm, previous": ("align", ["method.name=selm", "method.reference=previous"]),
    "dlma": ("align", ["method.name=dlma", "method.principles={principles}",
                       "method.contrary={contrary}"]),
    "optune, balance": ("align", ["method.name=optune", "method.renew=0.4", "kl_to_start=false",
                                  "generate.balance=length"]),
    "psle, balance": ("align", ["generate.balance=length", "epochs=2"]),
    "psle, queue": ("align", ["generate.balance=queue", "slots=4", "epochs=2"]),
    "prefer, real": ("prefer", ["method.name=real", "method.keep=0.4"]),
    "prefer, dpo": ("prefer", ["method.name=dpo", "method.label_smoothing=0.1"]),
    "prefer, aps": ("prefer", ["method.name=aps", "lr_schedule=cosine"]),
    "prefer, ipo": ("prefer", ["method.name=ipo", "epochs=2"]),
    "prefer, rdo": ("prefer", ["method.name=rdo", "data.train={scored}"]),
    "prefer, optune": ("prefer", ["method.name=optune", "data.train={scored}"]),
    "dpo, sharded": ("align", ["method.name=dpo", "frozen=sharded"]),
    "vcb, offload": ("align", ["method.name=vcb", "frozen=offload"]),
    "psle, lora, sharded": ("align", ["lora.r=4", "method.rank_loss=dpo", "frozen=sharded"]),
    "psle, lora": ("align", ["lora.r=4", "lora.alpha=8"]),
    "dpo, lora, previous": ("align", ["method.name=dpo", "method.reference=previous", "epochs=2",
                                      "lora.r=3", "lora.rslora=true"]),
    "reward, lora": ("reward", ["lora.r=4", "lora.targets=q_proj,v_proj,down_proj"]),
    "prefer, dpo, lora, folder": ("prefer", ["method.name=dpo", "lora.r=4",
                                             "method.reference={seed}"]),
    "prefer, dpo, lora": ("prefer", ["method.name=dpo", "lora.r=4", "weight_decay=0.1"]),
    "sft, messages, gemma3": ("sft", ["model={chat:gemma3}", "data.train={chat:gemma3}/sft.jsonl",
                                      "lr_schedule=cosine"]),
    "psle, messages, gemma3": ("align", [
        "model={talks:gemma3}", "data.prompts={chat:gemma3}/prompts.jsonl", LENGTH,
        "method.principle_role=system"]),
    "dpo, messages, gpt_neox": ("align", [
        "method.name=dpo", "model={talks:gpt_neox}", "data.prompts={chat:gpt_neox}/prompts.jsonl",
        "data.system=be brief.", LENGTH]),
    "prefer, dpo, messages, gpt_neox": ("prefer", [
        "method.name=dpo", "model={talks:gpt_neox}", "data.train={chat:gpt_neox}/pairs.jsonl"]),
    "reward, messages, gpt_neox": ("reward", [
        "model={talks:gpt_neox}", "data.train={chat:gpt_neox}/pairs.jsonl"]),
    "sft, micro-batch tokens": ("sft", ["micro_batch_size=0", "micro_batch_tokens=200"]),
    "prefer, real, micro-batch tokens": ("prefer", ["method.name=real", "method.keep=0.4", "micro_batch_size=0",
                                                    "micro_batch_tokens=300"]),
    "psle, micro-batch tokens": ("align", ["micro_batch_size=3", "micro_batch_tokens=400", "epochs=2"]),
    "stages": ("run", []),  # runs the stages of stages.yaml
}


class Chat:
    """Formats {chat:FAMILY} in an option as the folder of chat_world.py's model and records of
    that family, and {talks:FAMILY} as that of the model trained on them. Both are made when
    they are first used."""

    def __init__(self, bench, which):
        self.bench, self.which = bench, which

    def __format__(self, family):
        return str(chat_world.make(self.bench, family)[self.which])


class Job:
    """The command line of a job of METHODS, without the number of ranks and the output folder."""

    def __init__(self, bench, name, base, reward, more=()):
        self.bench, self.name, self.base, self.reward = bench, name, base, reward
        self.command, sets = METHODS[name]
        texts = bench.world / "principles"
        self.sets = [s.format(chat=Chat(bench, 0), talks=Chat(bench, 1), base=base, seed=bench.folder / "seed" / "latest",
                              scored=bench.folder / "scored.jsonl",
                              principles=texts / "kind_and_helpful.txt",
                              contrary=texts / "contrary.txt") for s in sets]
        self.more = list(more)

    def start(self, out, *more, ranks=1, threads=1):
        """Starts the job. A file of stages has relative paths, so its job starts in the folder `out`."""
        if self.command == "run":
            out.mkdir(exist_ok=True)
        return self.bench.start([*self.args(out), *more], ranks, threads,
                                cwd=out if self.command == "run" else None)

    def args(self, out):
        b = self.bench
        if self.command == "run":
            return ["run", b.folder / "stages.yaml", *self.more]
        if self.command == "sft":
            return b.sft_args(out, "global_batch_size=24", "log_every=1", "checkpoint.every=2",
                              *self.sets, *self.more, steps=8)
        if self.command == "reward":
            return b.reward_args(out, self.base, "global_batch_size=24", "log_every=1",
                                 "checkpoint.every=2", *self.sets, *self.more, steps=8)
        if self.command == "prefer":
            return b.prefer_args(out, self.base, "global_batch_size=24", "log_every=1",
                                 "checkpoint.every=2", *self.sets, *self.more, steps=10)
        named = [s.split("=")[1] for s in self.sets if s.startswith("method.name=")]
        method = named[0] if named else "psle"
        sets = [s for s in self.sets if not s.startswith("method.name=")]
        own = any(s.startswith("reward.") for s in sets)
        reward = [] if own else [f"reward.model={self.reward}"]
        return b.align_args(out, self.base, *reward, "global_batch_size=12", *sets, *self.more,
                            method=method, iterations=3, prompts=20)


def prepare(bench):
    """Makes the data set, an SFT model, a reward model and a model trained on a few pairs, from
    which the jobs start. Returns (SFT model, reward model)."""
    bench.make_world()
    base = bench.base()
    reward = bench.folder / "reward-model"
    bench.good(*bench.reward_args(reward, base))
    texts = bench.world / "principles"
    (texts / "contrary.txt").write_text("be rude. be harmful.\n")
    bench.good(*bench.prefer_args(bench.folder / "seed", base, "method.name=dpo", steps=4))
    pairs = [json.loads(line) for line in (bench.world / "pairs.jsonl").read_text().splitlines()]
    scored = [{**p, "score_rejected": 0.1 * i, "score_chosen": 0.1 * i + 0.02 * len(p["chosen"])}
              for i, p in enumerate(pairs)]
    (bench.folder / "scored.jsonl").write_text("".join(json.dumps(p) + "\n" for p in scored))
    text = (HERE / "stages.yaml").read_text().format(world=bench.world)
    (bench.folder / "stages.yaml").write_text(text)
    return base, reward / "latest"


# ---- the files of a run -------------------------------------------------------------------------

def sha(text):
    import hashlib
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()


def h5_values(path):
    """Returns every dataset and attribute of an HDF5 file as h5dump prints them, without the first
    line, which has the file name."""
    dump = subprocess.run(["h5dump", "-m", "%.17g", str(path)], capture_output=True, text=True,
                          timeout=common.LIMIT, check=True).stdout
    return dump.partition("\n")[2]


def stamp(path):
    """Returns the modification time of a file in ns, or 0 if the file does not exist."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def stages(out):
    """Returns the output folders below a folder: those of its stages, or the folder itself."""
    found = sorted(p.parent for p in Path(out).glob("run/*/run.json"))
    return found or [Path(out)]


def started(out):
    """Returns the time at which the last session of a run wrote its first file, or 0 if there is
    none."""
    return max(stamp(folder / "run.json") for folder in stages(out))


def model(out):
    """Returns the file with the weights, or the adapter, at the end of a run."""
    whole = stages(out)[-1] / "latest" / "model.safetensors"
    return whole if whole.exists() else whole.with_name("adapter_model.safetensors")


def left_by(out):
    """Returns {name: sha256} of those parts of a run that must be equal on any number of ranks and after kills."""
    out = Path(out)
    if stages(out) != [out]:
        parts = [left_by(folder) for folder in stages(out)]
        tables = [common.digest(p) for p in sorted(out.glob("run/*/eval.json"))]
        return {**{k: sha(json.dumps([p[k] for p in parts])) for k in parts[0]},
                "tables": sha(json.dumps(tables))}
    rollouts = {p.name: common.rollout_records(p)
                for p in sorted((out / "rollouts").glob("iteration-????.h5"))}
    for name, records in rollouts.items():
        if len(records) < 12 or None in records.values():
            raise SystemExit(f"{out}: {name} could not be read: {sorted(records)}")
    rows = [common.timeless(r) for r in common.metrics(out)]
    return {
        "model": common.digest(model(out)),
        "state": sha(h5_values(out / "latest" / "trainer_state.h5")),
        "state file": common.digest(out / "latest" / "trainer_state.h5"),
        "folder": sha(json.dumps(common.tree(f"{out}/latest/"))),
        "rollouts": sha(json.dumps(rollouts, sort_keys=True)) if rollouts else "-",
        "metrics": sha(json.dumps(rows)),
    }


def weights(path):
    """Returns the float32 tensors of a safetensors file, joined in the order of their names."""
    raw = Path(path).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    values = array.array("f")
    for name in sorted(n for n in header if n != "__metadata__"):
        begin, end = header[name]["data_offsets"]
        values.frombytes(raw[8 + size + begin:8 + size + end])
    return values


def difference(a, b):
    """Returns |a - b| / |a| for the weights in two files."""
    x, y = weights(a), weights(b)
    far = math.fsum((p - q) ** 2 for p, q in zip(x, y))
    return math.sqrt(far / math.fsum(p * p for p in x))


CHECKPOINT = re.compile(r"checkpoint-(\d+)(-pause-\d+)?$")


def checkpoints(out):
    """Returns the steps of the checkpoints in a folder, in ascending order."""
    found = [CHECKPOINT.match(p.name) for p in Path(out).glob("checkpoint-*")]
    return sorted(int(m.group(1)) for m in found if m)


def resumed_step(out):
    return json.loads((Path(out) / "run.json").read_text())["sessions"][-1]["resumed_step"]


def leftovers(out):
    """Returns the files and folders that only an unfinished write leaves (*.tmp)."""
    return sorted(str(p.relative_to(out)) for p in Path(out).rglob("*.tmp"))


# ---- running jobs -------------------------------------------------------------------------------

def processes(p, plumb):
    """Returns {rank: process id} of the plumb processes of job p (p itself if there is no
    mpirun)."""
    found = {}
    for pid in [p.pid, *common.descendants(p.pid)]:
        with contextlib.suppress(OSError):
            if Path(os.readlink(f"/proc/{pid}/exe")) != plumb:
                continue
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            rank = [e.split(b"=")[1] for e in environ if e.startswith(b"OMPI_COMM_WORLD_RANK=")]
            found[int(rank[0]) if rank else 0] = pid
    return found


def alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def shared_files(pids):
    """Returns the files in /dev/shm that are mapped by these processes."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                if "/dev/shm/" in line and "(deleted)" not in line:
                    found.add(line[line.index("/dev/shm/"):])
    return found


def send(pid, sign):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sign)


def end_of(p, limit=common.LIMIT):
    """Waits for the end of job p. Returns (exit code, standard error), or (None, ...) if the job exceeded
    the limit and was killed."""
    try:
        err = p.communicate(timeout=limit)[1]
        return p.returncode, err.decode(errors="replace")
    except subprocess.TimeoutExpired:
        common.kill_tree(p)
        return None, p.communicate()[1].decode(errors="replace")


def outlive(pids, patience=30.0):
    """Waits up to `patience` seconds, then kills and returns those of the processes that still
    run."""
    end = time.monotonic() + patience
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    late = [pid for pid in pids if alive(pid)]
    for pid in late:
        send(pid, signal.SIGKILL)
    return late


# ---- reporting ----------------------------------------------------------------------------------

def median(x):
    x = sorted(x)
    return (x[(len(x) - 1) // 2] + x[len(x) // 2]) / 2 if x else float("nan")


def commit():
    """Returns the commit of the source, with a + if files differ from it. Returns "unknown" without
    git or outside of a checkout."""
    if not shutil.which("git"):
        return "unknown"

    def git(*args):
        return subprocess.run(["git", "-C", HERE, *args], capture_output=True, text=True,
                              check=False).stdout.strip()
    dirty = "+" if git("status", "--porcelain", "-uno") else ""
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + dirty


class Report:
    """Prints lines of markdown, and writes them to a file if a path is given."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8") if path else None

    def __call__(self, line=""):
        print(line, flush=True)
        if self.file:
            print(line, file=self.file, flush=True)

    def head(self, title):
        self(f"## {title}")
        self()
        self(f"    {shown_command()}")
        self()
        self(f"commit {commit()}, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores")
        self()


def shown_command():
    words = [Path(a).name if "/" in a else a for a in sys.argv[1:]]
    return " ".join([f"tests/exact/{Path(sys.argv[0]).name}", *words])


def parser(description):
    p = argparse.ArgumentParser(description=description)
    p.add_argument("plumb", help="the built program")
    p.add_argument("world", help="the built plumb-world")
    p.add_argument("--out", help="write the table to this file, too")
    p.add_argument("--seed", type=int, default=1, help="of the moments and rank counts")
    p.add_argument("--quick", action="store_true", help="the few cases that CI runs")
    return p


def run(body, options, needs_mpi=True):
    """Calls body(bench, options, report). Ends the process with 0 (passed), 1 (failed) or 77
    (skipped)."""
    if not shutil.which("h5dump"):
        common.skip("there is no h5dump to read rollouts with")
    bench = common.Bench(options.plumb, options.world)
    try:
        if needs_mpi and not bench.mpirun:
            common.skip("there is no mpirun, or this plumb is built without MPI")
        body(bench, options, Report(options.out))
    finally:
        bench.close()
    bench.end()
