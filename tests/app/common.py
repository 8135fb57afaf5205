"""common.py - shared by the tests of the built program: runs it alone or under mpirun, makes the
small world that it works on, and collects the failures. Standard library only."""
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The launcher and its options; tests/meson.build sets the variable for the MPI of the build.
MPIRUN = os.environ.get("PLUMB_MPIRUN", "mpirun --allow-run-as-root --oversubscribe --bind-to none").split()
ROOT = Path(__file__).resolve().parents[2]
LIMIT = 300 # seconds; a run that takes longer hangs, even if ten others run on the same core


# Methods that also generate answers under principles.
PRINCIPLED = ("psle", "psle_curriculum", "context_distillation")


class Result:
    """Exit code, standard output and error (text), seconds, and the command for messages."""

    def __init__(self, command, code, out, err, seconds):
        self.command, self.code, self.out, self.err = command, code, out, err
        self.seconds = seconds

    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def __str__(self):
        shown = " ".join(str(c) for c in self.command).replace(tempfile.gettempdir() + "/", "")
        return f"$ {shown}\nexit code {self.code} after {self.seconds:.1f} s\n{self.err[-3000:]}"


class Bench:
    """A temporary folder with the world, and the failures until now."""

    def __init__(self, plumb, world):
        self.plumb, self.world_program = Path(plumb).resolve(), Path(world).resolve()
        self.mpirun = shutil.which(MPIRUN[0]) if MPIRUN else None
        self.failures = 0
        self.folder = Path(tempfile.mkdtemp(prefix="plumb-app-"))
        self.world = self.folder / "world"
        if self.mpirun and "built without MPI" in self.run("doctor", ranks=2).err:
            self.mpirun = None # no tests of several ranks

    # ---- running ----------------------------------------------------------------------------

    def command(self, args, ranks=1, threads=1):
        """Returns the command line; ranks=1 runs without mpirun. threads=None: the command has no option threads."""
        head = [] if ranks == 1 else [*MPIRUN, "-n", str(ranks)]
        threaded = threads is not None and args[0] not in ("tokenize", "inspect")
        tail = [f"threads={threads}"] if threaded else []
        # measuring matrix products takes long in the emulator: off unless a test sets the variable
        given = any(str(a).startswith("pins=") for a in args)
        tail += ["pins=none"] if "device=cuda" in args and args[0] != "plan" and not given else []
        return [*head, self.plumb, *args, *tail]

    def start(self, args, ranks=1, threads=1, env=None, stdin=subprocess.DEVNULL, cwd=None):
        """Starts a process in its own process group, with standard error in a pipe."""
        return subprocess.Popen(self.command(args, ranks, threads), cwd=cwd or self.folder,
                                stdin=stdin, env={**os.environ, **(env or {})},
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                start_new_session=True)

    def run(self, *args, ranks=1, threads=1, stdin=None, env=None, timeout=LIMIT):
        """Runs to the end and returns the Result. A run over its time is killed with its group; its code is None."""
        began = time.monotonic()
        p = self.start(args, ranks, threads, env,
                       subprocess.DEVNULL if stdin is None else subprocess.PIPE)
        try:
            out, err = p.communicate(stdin.encode() if isinstance(stdin, str) else stdin, timeout)
            code = p.returncode
        except subprocess.TimeoutExpired:
            kill_tree(p)
            out, err = p.communicate()
            code = None
        return Result(self.command(args, ranks, threads), code, out.decode(errors="replace"),
                      err.decode(errors="replace"), time.monotonic() - began)

    def good(self, *args, **kw):
        """Runs, and ends the test if the run fails: the later checks depend on it."""
        result = self.run(*args, **kw)
        if result.code != 0:
            print(f"FAILED, cannot go on: {result}", flush=True)
            raise SystemExit(1)
        return result

    def in_sessions(self, *args, ranks=(1,), setups=((),), growth=1.2):
        """Runs with resume=auto again and again until a session finishes the run or fails. Returns
        the results of all sessions, of which every one but the last was interrupted. Session i has the number
        of ranks and the further arguments whose turn it is in `ranks` and `setups`. The limit
        train.max_time begins at 5 ms, which is too short for any run on any machine: the first
        sessions take one step each. It grows by the factor `growth`, so that a part of a run that
        takes longer than the step between two limits is interrupted at least once."""
        sessions = []
        for i in range(80):
            sessions.append(self.run(*args, "resume=auto", *setups[i % len(setups)], f"train.max_time={0.005 * growth**i:.4f}",
                                     ranks=ranks[i % len(ranks)]))
            if sessions[-1].code != 99:
                break
        return sessions

    # ---- failures ---------------------------------------------------------------------------

    def check(self, good, *words):
        if not good:
            self.failures += 1
            print("FAILED:", *words, flush=True)
        return bool(good)

    def same(self, a, b, what):
        """Checks that files have the same bytes."""
        a, b = Path(a), Path(b)
        if not self.check(a.is_file() and b.is_file(), what, "missing:", a, b):
            return False
        return self.check(a.read_bytes() == b.read_bytes(), what, "differ:", a, b)

    def same_run(self, whole, out, what):
        """Checks that two runs have the same weights, or adapter, and the same state, metrics and rollouts."""
        weights = "model.safetensors"
        if not (whole / "latest" / weights).exists():
            weights = "adapter_model.safetensors"
        for name in (weights, "trainer_state.h5"):
            self.same(whole / "latest" / name, out / "latest" / name, what)
        a, b = ([timeless(r) for r in metrics(x)] for x in (whole, out))
        steps = [r["step"] for r in b]
        self.check(steps == sorted(set(steps)), what, "steps of metrics.jsonl:", steps)
        self.check(a == b, what, "metrics differ:", a, b)
        self.check(not list(out.glob("*.tmp")), what, "leaves", list(out.glob("*.tmp")))
        for x in sorted((whole / "rollouts").glob("iteration-????.h5")):
            self.check(rollout_records(x) == rollout_records(out / "rollouts" / x.name), what,
                       x.name, "differs")

    def close(self):
        """Removes the folder unless PLUMB_KEEP is set."""
        if os.environ.get("PLUMB_KEEP"):
            print("kept:", self.folder)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def end(self):
        """Prints how many checks failed, and exits with 1 if one did."""
        print(f"{self.failures} failures" if self.failures else "ok")
        sys.exit(1 if self.failures else 0)

    def logprobs(self, model, pairs):
        """Returns the sums of log-probs by `plumb logprob` of completions behind prompts, both given as ids."""
        text = "".join(json.dumps({"ids": [*prompt, *ids], "prompt_tokens": len(prompt)}) + "\n"
                       for prompt, ids in pairs)
        lines = self.good("logprob", f"model={model}", "input=-", stdin=text).lines()
        return [line["sum"] for line in lines]

    # ---- the world --------------------------------------------------------------------------

    def make_world(self, sft=320, pairs=192, prompts=128):
        """Makes the quickstart's world with a few records, and a model of 0.1 M parameters."""
        made = subprocess.run([self.world_program, "make", self.world, "1"], timeout=LIMIT,
                              stdout=subprocess.DEVNULL, check=False)
        if made.returncode != 0:
            raise SystemExit("plumb-world make failed")
        for name, n in (("sft", sft), ("pairs", pairs), ("prompts", prompts)):
            head(self.world / f"{name}.jsonl", n)
        config = json.loads((self.world / "config.json").read_text())
        config.update(hidden_size=64, intermediate_size=128, num_hidden_layers=2, head_dim=16)
        (self.world / "config.json").write_text(json.dumps(config, indent=1))

    def sft_args(self, out, *more, steps=10):
        return ["sft", f"model={self.world}", f"output_dir={out}", "train.init=random",
                f"data.train={self.world}/sft.jsonl", f"max_steps={steps}",
                "global_batch_size=16", "micro_batch_size=4", "learning_rate=3e-3",
                "log_every=5", "checkpoint.every=0", *more]

    def reward_args(self, out, model, *more, steps=10):
        return ["reward", f"model={model}", f"output_dir={out}",
                f"data.train={self.world}/pairs.jsonl", f"max_steps={steps}",
                "global_batch_size=16", "micro_batch_size=4", "learning_rate=1e-3",
                "log_every=5", "checkpoint.every=0", *more]

    def prefer_args(self, out, model, *more, steps=10):
        return ["prefer", *self.reward_args(out, model, *more, steps=steps)[1:]]

    def align_args(self, out, model, *more, iterations=2, method="psle", prompts=16, group=4):
        """Returns the arguments of align, without those of the reward."""
        principles = self.world / "principles" / "kind_and_helpful.txt"
        named = [f"method.principles={principles}"] if method in PRINCIPLED else []
        return ["align", f"model={model}", f"output_dir={out}", f"method.name={method}", *named,
                f"data.prompts={self.world}/prompts.jsonl", f"iterations={iterations}",
                f"prompts_per_iteration={prompts}", "global_batch_size=8", "micro_batch_size=2",
                f"group_size={group}", "max_new_tokens=16", "slots=16", "learning_rate=1e-3", "checkpoint.every=1",
                *more]

    def base(self):
        """Returns the sft checkpoint from which the other runs start; makes it at the first call."""
        out = self.folder / "base"
        if not out.exists():
            self.good(*self.sft_args(out))
        return out / "latest"


def head(path, n):
    lines = path.read_text().splitlines(keepends=True)[:n]
    path.write_text("".join(lines))


def descendants(pid):
    """Returns the process ids below pid: mpirun puts each rank into its own process group."""
    children = {}
    # Not Path.glob: it raises ProcessLookupError if a process ends while it looks.
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(name))
    found = [pid]
    for p in found:
        found += children.get(p, [])
    return found[1:]


def signal_rank(p, number):
    """Sends a signal to one process of plumb only, the last one started. Returns False if there is none."""
    for pid in reversed([p.pid, *descendants(p.pid)]):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text() == "plumb\n":
                os.kill(pid, number)
                return True
    return False


def kill_tree(p):
    """Sends SIGKILL to a process and all processes below it."""
    for pid in [p.pid, *descendants(p.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def until(p, ready):
    """Waits until ready() is true or p has ended; returns whether it is true."""
    end = time.monotonic() + LIMIT
    while not ready() and p.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    return ready()


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def tree(folder):
    """Returns every path below a folder with the hash of its contents, to check that nothing changed."""
    return {str(p.relative_to(folder)): digest(p) if p.is_file() else "folder"
            for p in sorted(Path(folder).rglob("*"))}


def rewind(run, out, step):
    """Copies a finished run and makes of it what a kill after checkpoint-STEP leaves, with later metrics."""
    shutil.copytree(run, out, symlinks=True)
    for c in out.glob("checkpoint-*"):
        if int(c.name.split("-")[1]) > step:
            shutil.rmtree(c)
    (out / "latest").unlink()
    (out / "latest").symlink_to(f"checkpoint-{step}")
    return out


def metrics(out):
    return [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]


# The members that depend on the clock or on the number of ranks are left out. The others may not
# depend on the machine.
def timeless(row):
    return {k: v for k, v in row.items()
            if not any(word in k for word in ("time", "per_second", "elapsed", "comm/"))}


def rollout_records(master):
    """Returns every dataset of a rollout master as h5dump prints it. Attributes are left out, as
    world_size and rank differ on purpose."""
    dump = subprocess.run(["h5dump", "-m", "%.17g", str(master)], capture_output=True, text=True,
                          timeout=LIMIT, check=True).stdout
    data = {}
    for name, body in re.findall(r'DATASET "([^"]+)" \{(.*?)\n   \}', dump, re.S):
        values = re.search(r"DATA \{(.*?)\n      \}", body, re.S)
        data[name] = values.group(1) if values else None
    return data


def numbers(text):
    """Returns the values of a dataset of rollout_records."""
    return [float(x) for x in re.findall(r"[-+\d.enai]+", re.sub(r"\(\d+\):", "", text))]


def rollout_answers(out, iteration):
    """Returns every answer of an iteration in global order: prompt and sample, ids, log-probs, reward."""
    got = rollout_records(Path(out) / "rollouts" / f"iteration-{iteration:04d}.h5")
    fingerprints = re.sub(r"\(\d+\):", "", got.pop("weight_fingerprint")).split(",")
    data = {k: numbers(v) for k, v in got.items() if v}
    at, start, split = ([int(x) for x in data[k]] for k in
                        ("offsets", "completion_start", "logprob_offsets"))
    ids = [int(x) for x in data["tokens"]]
    return [{"record": int(data["prompt_id"][i]), "principled": data["principled"][i] == 1,
             "prompt": ids[at[i]:start[i]], "ids": ids[start[i]:at[i + 1]],
             "reward": data["reward"][i], "logp": sum(data["logprob"][split[i]:split[i + 1]]),
             "fingerprint": fingerprints[i].strip()} for i in range(len(start))]


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def main(test, needs_mpi=False):
    """Runs test(bench); `SCRIPT PLUMB PLUMB_WORLD [SKIP-REASON]` is its command line."""
    if test.__module__ != "__main__":  # it would run, and end the program, in place of the script's own tests
        raise SystemExit(f"{test.__module__}.py calls common.main when it is imported; write: if __name__ == \"__main__\":")
    if len(sys.argv) != 3:
        raise SystemExit(f"usage: {sys.argv[0]} PLUMB PLUMB_WORLD")
    bench = Bench(sys.argv[1], sys.argv[2])
    if needs_mpi and not bench.mpirun:
        shutil.rmtree(bench.folder)
        skip("there is no mpirun, or this plumb is built without MPI")
    try:
        bench.make_world()
        test(bench)
    finally:
        bench.close()
    bench.end()
