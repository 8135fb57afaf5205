"""runs.py - shared by methods.py and claims.py: starts plumb, skips complete runs, evaluates, chooses among tuning trials,
and computes means and intervals over seeds. Standard library only."""
import json
import math
import pathlib
import shutil
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUIET = ("checkpoint.every=0", "checkpoint.keep_last=1", "report.html=false")
# 97.5 % quantiles of Student's t for 1, 2, 3, ... degrees of freedom
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


def plumb(args, *arguments):
    command = ["./launch/local.sh", str(args.ranks), *map(str, arguments), "log_level=warn"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with code {done.returncode}:\n{done.stderr}")
    return done.stdout


def finished(run):
    """Returns true if run.json says that the run ended with success. Such a run is not repeated, because its result
    depends on configuration and seed only."""
    try:
        return json.loads((ROOT / run / "run.json").read_text())["sessions"][-1]["result"] == "ok"
    except (OSError, ValueError, LookupError):
        return False


def train(args, command, config, run, *options):
    """Makes the run of one command unless it is complete."""
    if not finished(run):
        shutil.rmtree(ROOT / run, ignore_errors=True)
        plumb(args, command, config, f"output_dir={run}", *QUIET, *options)


def evaluate(args, out, models, *more):
    """Evaluates several models in one call of `plumb eval`. Returns {name: figures} from
    eval.json."""
    names = ",".join(f"{name}={path}" for name, path in models.items())
    threads = [s for s in args.set if s.startswith("threads=")]
    plumb(args, "eval", f"{args.configs}/eval.yaml", f"eval.models={names}", f"output_dir={out}", "report.html=false", *threads, *more)
    return {m["name"]: m for m in json.loads((ROOT / out / "eval.json").read_text())["models"]}


def choose(trials, max_kl):
    """Returns the name of the trial with the best reward among the trials whose KL is at most max_kl nats (0: among
    all trials). If none is, returns the first trial. trials: {name: {"reward", "kl"}}."""
    within = [name for name, t in trials.items() if not max_kl or t["kl"] <= max_kl]
    return max(within or list(trials)[:1], key=lambda name: trials[name]["reward"])


def same_settings(out, now):
    """Exits if settings.json of the folder `out` has other settings than `now`. Writes the file if
    there is none. Settings are the options that influence every run."""
    file = ROOT / out / "settings.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and json.loads(file.read_text()) != now:
        sys.exit(f"{out} was begun with other settings (settings.json there): name another --out")
    file.write_text(json.dumps(now) + "\n")


def interval(values):
    """Returns the mean over the seeds and half of the width of its 95 % confidence interval (Student's t).
    The second number is NaN for one seed."""
    n = len(values)
    half = T[n - 2] * statistics.stdev(values) / math.sqrt(n) if 1 < n <= len(T) + 1 else math.nan
    return statistics.mean(values), half
