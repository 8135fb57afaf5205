#!/usr/bin/env python3
"""test_alone.py: checks that one failing rank ends all ranks, and that the message about the cause is
printed once and names the failing rank."""
import json
import os
import shutil
import signal
import subprocess
import sys

import common

RANKS = 3


class Ranks:
    """Runs plumb with a working directory of its own for each rank, so that a file can be missing
    on one rank only."""

    def __init__(self, bench):
        self.bench = bench
        self.number = 0

    def folders(self, shared, only_0=()):
        """Makes a working directory for each rank with links to the shared files. only_0: names of files
        that only rank 0 has."""
        self.number += 1
        top = self.bench.folder / f"ranks-{self.number}"
        for rank in range(RANKS):
            (top / str(rank)).mkdir(parents=True)
            for path in (*shared, *(only_0 if rank == 0 else ())):
                (top / str(rank) / path.name).symlink_to(path)
        return top

    def run(self, top, *args):
        script = top / "run.sh"
        script.write_text(f'cd "{top}/$OMPI_COMM_WORLD_RANK" && exec "$@"\n')
        b = self.bench
        plumb, b.plumb = b.plumb, "/bin/sh"
        try:
            return b.run(script, plumb, *args, ranks=RANKS, threads=None)
        finally:
            b.plumb = plumb


def cause(bench, r, what, *words):
    """Checks that the run ended with an error message that has these texts, and that it is
    printed once."""
    lines = [x for x in r.err.splitlines() if x.startswith("plumb ")]
    bench.check(r.code not in (0, None), what, "does not fail:", r)
    bench.check(len(lines) == 2 and lines[1].startswith(lines[0].split(":")[0]) and
                "ends with exit code" in lines[1], what, "is not told once, and last:", r)
    for word in words:
        bench.check(lines and word in lines[0], what, "does not name", word, "in", r)


def missing_files(bench, ranks):
    world, base = bench.world, bench.base()
    model = bench.folder / "model"
    model.symlink_to(base)
    judge = bench.folder / "judge"
    judge.symlink_to(bench.good_reward)
    sft = ("sft", "model=model", "output_dir=out", "data.train=sft.jsonl", "max_steps=2",
           "global_batch_size=8", "threads=1")
    align = ("align", "model=model", "output_dir=out", "method.name=raft", "group_size=2",
             "data.prompts=prompts.jsonl", "reward.model=judge", "iterations=1", "max_new_tokens=4",
             "prompts_per_iteration=8", "global_batch_size=4", "threads=1")
    psle = [*(a for a in align if not a.startswith("method")), "method.name=psle",
            "method.principles=kind_and_helpful.txt"]
    principles = world / "principles" / "kind_and_helpful.txt"
    evaluate = ("eval", "eval.models=a=model", "data.eval=prompts.jsonl", "reward.model=judge",
                "data.limit=4", "max_new_tokens=4", "threads=1")
    yaml = bench.folder / "sft.yaml"
    yaml.write_text("log_level: warn\n")
    needed = {"model": model, "sft.jsonl": world / "sft.jsonl", "judge": judge,
              "prompts.jsonl": world / "prompts.jsonl", "kind_and_helpful.txt": principles,
              "sft.yaml": yaml}
    for name, args in (("model", sft), ("sft.jsonl", sft), ("sft.yaml", ("sft", "sft.yaml", *sft[1:])),
                       ("prompts.jsonl", align), ("judge", align), ("kind_and_helpful.txt", psle),
                       ("model", evaluate), ("prompts.jsonl", evaluate), ("judge", evaluate),
                       ("model", ("generate", "model=model", "data.prompts=prompts.jsonl")),
                       ("judge", ("score", "reward.model=judge", "input=sft.jsonl"))):
        there = [path for key, path in needed.items() if key != name]
        top = ranks.folders(there, [needed[name]])
        r = ranks.run(top, *args)
        # Ranks 1 and 2 fail in the same way; the message is that of rank 1.
        cause(bench, r, f"{args[0]} without {name} on ranks 1 and 2", name, f"rank 1 of {RANKS}")
        bench.check(not (top / "0" / "out").exists(), args[0], "without", name, "left files")


def other_folders(bench, ranks):
    """Checks that it is an error if the ranks have different output_dir folders."""
    shared = [bench.folder / "model", bench.folder / "judge", bench.world / "prompts.jsonl",
              bench.world / "sft.jsonl"]
    top = ranks.folders(shared)
    r = ranks.run(top, "align", "model=model", "output_dir=out", "method.name=raft", "group_size=2",
                  "data.prompts=prompts.jsonl", "reward.model=judge", "iterations=1",
                  "max_new_tokens=4", "prompts_per_iteration=8", "global_batch_size=4", "threads=1")
    cause(bench, r, "align into folders of each rank", "does not see", "rank 1", "share")
    args = ("sft", "model=model", "output_dir=out", "data.train=sft.jsonl", "max_steps=2",
            "global_batch_size=8", "threads=1", "resume=auto")
    top = ranks.folders(shared)
    r = ranks.run(top, *args)
    bench.check(r.code == 0, "only rank 0 writes in sft:", r)
    r = ranks.run(top, *args)
    cause(bench, r, "resume from a folder of rank 0", "does not see", "checkpoint-2", "share")


def configuration(bench):
    """Checks that an error in the configuration, which every rank finds, is printed once, without a
    rank number, and before the messages of the launcher."""
    yaml = bench.folder / "bad.yaml"
    yaml.write_text("output_dir: o\nlerning_rate: 3\n")
    for ranks in (1, 2, 4):
        r = bench.run("align", yaml, ranks=ranks)
        bench.check(r.code == 12, "exit code of a wrong configuration", r)
        said = [i for i, x in enumerate(r.err.splitlines()) if "lerning_rate" in x]
        lines = r.err.splitlines()
        bench.check(len(said) == 1 and lines[said[0]].startswith(f"plumb align: {yaml}:2:1: "),
                    "the error is not told once:", r)
        bench.check(ranks == 1 or (lines[said[0] + 1:] and "exit code 12" in lines[said[0] + 1]),
                    "no word about the launcher's lines:", r)
        bench.check(r.err.count("plumb align:") == (1 if ranks == 1 else 2), "more words:", r)


def different(bench, ranks):
    """Checks that if several ranks have different errors, each error is printed with its rank."""
    top = ranks.folders([bench.folder / "model"])
    for rank, name in enumerate(("a", "b", "c")):
        (top / str(rank) / "sft.jsonl").write_text(json.dumps({"prompt": name}) + "\n")
        if rank == 2:
            (top / str(rank) / "sft.jsonl").unlink()
    r = ranks.run(top, "sft", "model=model", "output_dir=out", "data.train=sft.jsonl")
    told = [x for x in r.err.splitlines() if x.startswith("plumb sft: rank ")]
    bench.check(r.code not in (0, None), "does not fail:", r)
    bench.check([x.split(":")[1] for x in told] == [" rank 2 of 3", " rank 0 of 3"] and
                "completion" in told[1] and "sft.jsonl" in told[0], "failures of ranks:", r)


def killed_early(bench):
    """Checks that all ranks end if one is killed before or during the creation of the communicator."""
    script = bench.folder / "early.sh"
    for what in ("kill -9 $$", "exit 3"):
        script.write_text(f'if [ "$OMPI_COMM_WORLD_RANK" = 1 ]; then {what}; fi\nexec "$@"\n')
        plumb, bench.plumb = bench.plumb, "/bin/sh"
        try:
            r = bench.run(script, plumb, "doctor", ranks=2, threads=None)
        finally:
            bench.plumb = plumb
        bench.check(r.code not in (0, None), what, "does not end the others:", r)


def silent(bench):
    """Checks that a rank which stops (SIGSTOP) while the ranks generate ends the others within comm.timeout, and that
    the message names it. Without the stop, each of these commands generates far longer than the test may take."""
    base, out = bench.base(), bench.folder / "silent"
    prompts = f"prompts={bench.world}/prompts.jsonl"
    size = ("group_size=4096", "max_new_tokens=200", "slots=4", "ignore_eos=true", "comm.timeout=3")
    # `generate`: a rank that has nothing to do until rank 0 has written lines; `queue`: a rank that asks rank 0 for prompts
    generate = ["generate", f"model={base}", prompts, f"output={out}.jsonl", *size]
    queue = bench.align_args(out, base, "reward.functions=[{name: length, target: 6}]", *size, "group_size=512",
                             "generate.balance=queue", "prompts_per_iteration=64", method="dpo")
    for what, args, rank in (("generate", generate, 0), ("generate", generate, 1), ("queue", queue, 0)):
        p = bench.start(args, ranks=2, env={"PLUMB_PROGRESS": "plain:0"})
        for line in p.stderr:
            if b"running, " in line:
                break
        stopped = common.rank_process(p, rank)
        if not bench.check(stopped, what, "has no rank", rank, p.poll()):
            return
        os.kill(stopped, signal.SIGSTOP)
        try:
            err = p.communicate(timeout=common.LIMIT)[1].decode()
        except subprocess.TimeoutExpired:
            bench.check(False, what, "waits for ever for rank", rank)
            common.kill_tree(p)
            err = p.communicate()[1].decode()
        said = [x for x in err.splitlines() if x.startswith("plumb ")]
        bench.check(p.returncode == 10 and said and f"no heartbeat for 3 s from rank {rank}" in said[0], what, "without rank", rank, "says", said)
        shutil.rmtree(out, ignore_errors=True)


def test(bench):
    os.environ.pop("PLUMB_PROGRESS", None)
    out = bench.folder / "reward"
    bench.good(*bench.reward_args(out, bench.base(), steps=2))
    bench.good_reward = out / "latest"
    ranks = Ranks(bench)
    configuration(bench)
    missing_files(bench, ranks)
    other_folders(bench, ranks)
    different(bench, ranks)
    killed_early(bench)
    silent(bench)
    sys.stdout.flush()


common.main(test, needs_mpi=True)
