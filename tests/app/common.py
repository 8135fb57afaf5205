"""common.py - shared by the tests of the built program. Runs plumb alone or under mpirun, makes
the small generated data set that the tests use, and counts failed checks. Needs the standard
library only."""
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

# The launcher and its options. tests/meson.build sets PLUMB_MPIRUN for the MPI library of the
# build.
MPIRUN = os.environ.get("PLUMB_MPIRUN", "mpirun --allow-run-as-root --oversubscribe --bind-to none").split()
ROOT = Path(__file__).resolve().parents[2]
# seconds; a command that takes longer counts as hanging, because ten of them on one core take less
LIMIT = 300


# These methods also generate answers under principles.
PRINCIPLED = ("psle", "psle_curriculum", "context_distillation")


class Result:
    """Exit code, standard output and standard error (as text), seconds, and the command line for
    messages."""

    def __init__(self, command, code, out, err, seconds):
        self.command, self.code, self.out, self.err = command, code, out, err
        self.seconds = seconds

    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def __str__(self):
        shown = " ".join(str(c) for c in self.command).replace(tempfile.gettempdir() + "/", "")
        return f"$ {shown}\nexit code {self.code} after {self.seconds:.1f} s\n{self.err[-3000:]}"


class Bench:
    """A temporary folder with the generated data set, and the number of failed checks."""

    def __init__(self, plumb, world):
        self.plumb, self.world_program = Path(plumb).resolve(), Path(world).resolve()
        self.mpirun = shutil.which(MPIRUN[0]) if MPIRUN else None
        self.failures = 0
        self.folder = Path(tempfile.mkdtemp(prefix="plumb-app-"))
        self.world = self.folder / "world"
        if self.mpirun and "built without MPI" in self.run("doctor", ranks=2).err:
            self.mpirun = None # no tests with several ranks

    # ---- running ----------------------------------------------------------------------------

    def command(self, args, ranks=1, threads=1):
        """Returns the command line of plumb with args. For ranks=1 it has no mpirun. threads=None: the command
        has no option threads."""
        head = [] if ranks == 1 else [*MPIRUN, "-n", str(ranks)]
        threaded = threads is not None and args[0] not in ("tokenize", "inspect")
        tail = [f"threads={threads}"] if threaded else []
        # The emulated GPU takes long to measure matrix products, so pins=none skips it unless args
        # have the option.
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
        """Runs the command to its end and returns the Result. A command that exceeds the timeout is killed with
        its process group; its code is then None."""
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
        """Runs the command, and ends the whole test if it fails, because later checks depend on
        its output."""
        result = self.run(*args, **kw)
        if result.code != 0:
            print(f"FAILED, cannot go on: {result}", flush=True)
            raise SystemExit(1)
        return result

    def in_sessions(self, *args, ranks=(1,), setups=((),), growth=1.2):
        """Runs the command with resume=auto again and again, until a session finishes the run or fails.
        Returns the results of all sessions; all but the last were interrupted. Session i uses entry i
        (cyclically) of `ranks` and of `setups`, which are further arguments. The time limit
        train.max_time of the first session is 5 ms. That is too short for any run, so the first
        sessions take one step each. Each session's limit is `growth` times the limit before. So a part
        of a run that takes longer than the difference of two limits is interrupted at least once."""
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
        """Checks that two files have the same bytes."""
        a, b = Path(a), Path(b)
        if not self.check(a.is_file() and b.is_file(), what, "missing:", a, b):
            return False
        return self.check(a.read_bytes() == b.read_bytes(), what, "differ:", a, b)

    def same_run(self, whole, out, what):
        """Checks that two runs have the same weights (or adapter), trainer state, metrics and rollouts."""
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
        """Removes the folder unless the environment has PLUMB_KEEP."""
        if os.environ.get("PLUMB_KEEP"):
            print("kept:", self.folder)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def end(self):
        """Prints how many checks failed, and exits with 1 if any did, else with 0."""
        print(f"{self.failures} failures" if self.failures else "ok")
        sys.exit(1 if self.failures else 0)

    def logprobs(self, model, pairs):
        """Returns, for each pair (ids of a prompt, ids of a completion), the sum of the completion's
        log-probs by `plumb logprob`."""
        text = "".join(json.dumps({"ids": [*prompt, *ids], "prompt_tokens": len(prompt)}) + "\n"
                       for prompt, ids in pairs)
        lines = self.good("logprob", f"model={model}", "input=-", stdin=text).lines()
        return [line["sum"] for line in lines]

    # ---- the data set -----------------------------------------------------------------------

    def make_world(self, sft=320, pairs=192, prompts=128):
        """Makes the quickstart's data set with few records, and the config.json of a model of
        0.1 M parameters."""
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
        """Returns the arguments of `plumb align`, without those about the reward."""
        principles = self.world / "principles" / "kind_and_helpful.txt"
        named = [f"method.principles={principles}"] if method in PRINCIPLED else []
        return ["align", f"model={model}", f"output_dir={out}", f"method.name={method}", *named,
                f"data.prompts={self.world}/prompts.jsonl", f"iterations={iterations}",
                f"prompts_per_iteration={prompts}", "global_batch_size=8", "micro_batch_size=2",
                f"group_size={group}", "max_new_tokens=16", "slots=16", "learning_rate=1e-3", "checkpoint.every=1",
                *more]

    def base(self):
        """Returns the SFT checkpoint from which other runs start. Makes it at the first call."""
        out = self.folder / "base"
        if not out.exists():
            self.good(*self.sft_args(out))
        return out / "latest"


def head(path, n):
    lines = path.read_text().splitlines(keepends=True)[:n]
    path.write_text("".join(lines))


def descendants(pid):
    """Returns the ids of all processes below pid. The process group is not enough, because
    mpirun puts each rank into a group of its own."""
    children = {}
    # Not Path.glob, which raises ProcessLookupError if a process ends during the search.
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(name))
    found = [pid]
    for p in found:
        found += children.get(p, [])
    return found[1:]


def signal_rank(p, number):
    """Sends a signal to only one plumb process below p: the one started last. Returns False if there is
    none."""
    for pid in reversed([p.pid, *descendants(p.pid)]):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text() == "plumb\n":
                os.kill(pid, number)
                return True
    return False


def rank_process(p, rank):
    """Returns the process id of one of the ranks that p, Open MPI's mpirun, has started; None if there is none."""
    for pid in descendants(p.pid):
        with contextlib.suppress(OSError):
            if f"OMPI_COMM_WORLD_RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                return pid
    return None


def kill_tree(p):
    """Sends SIGKILL to a process and to all processes below it."""
    for pid in [p.pid, *descendants(p.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def until(p, ready):
    """Waits until ready() is true or process p has ended. Returns whether ready() is true."""
    end = time.monotonic() + LIMIT
    while not ready() and p.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    return ready()


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def tree(folder):
    """Returns {path: hash of the contents} for everything below a folder, so that a test can check
    that nothing has changed."""
    return {str(p.relative_to(folder)): digest(p) if p.is_file() else "folder"
            for p in sorted(Path(folder).rglob("*"))}


def rewind(run, out, step):
    """Copies a finished run to `out` and removes its later checkpoints, so that it looks like a run that
    was killed some time after checkpoint-STEP. The lines of metrics that were written after that step
    stay."""
    shutil.copytree(run, out, symlinks=True)
    for c in out.glob("checkpoint-*"):
        if int(c.name.split("-")[1]) > step:
            shutil.rmtree(c)
    (out / "latest").unlink()
    (out / "latest").symlink_to(f"checkpoint-{step}")
    return out


def metrics(out):
    return [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]


# Leaves out the members that depend on the clock or on the number of ranks. The others must not
# depend on the machine.
def timeless(row):
    return {k: v for k, v in row.items()
            if not any(word in k for word in ("time", "per_second", "elapsed", "comm/"))}


def rollout_records(master):
    """Returns {name: text} of every dataset of a rollout master file, as h5dump prints it.
    Attributes are left out, because world_size and rank differ between runs."""
    dump = subprocess.run(["h5dump", "-m", "%.17g", str(master)], capture_output=True, text=True,
                          timeout=LIMIT, check=True).stdout
    data = {}
    for name, body in re.findall(r'DATASET "([^"]+)" \{(.*?)\n   \}', dump, re.S):
        values = re.search(r"DATA \{(.*?)\n      \}", body, re.S)
        data[name] = values.group(1) if values else None
    return data


def numbers(text):
    """Returns the numbers in one of the texts of rollout_records()."""
    return [float(x) for x in re.findall(r"[-+\d.enai]+", re.sub(r"\(\d+\):", "", text))]


def rollout_answers(out, iteration):
    """Returns every answer of an iteration in global order, as dictionaries with prompt, sample, ids,
    log-probs and reward."""
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
    """Runs test(bench). The command line of a test script is `SCRIPT PLUMB PLUMB_WORLD
    [SKIP-REASON]`."""
    # otherwise the imported module's test would run instead of the importing script's, and end the
    # program
    if test.__module__ != "__main__":
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
