#!/usr/bin/env python3
"""test_placement.py: checks src/app/placement.c: the table of ranks, hosts and cores that is printed at
the start, the warning about ranks that share a core, and the environment variables of network
libraries in run.json."""
import json
import os
import re
import shutil
import subprocess

import common

ROW = re.compile(r"^ *(?:\[[^]]*\] )?  (\d+) +(\S+) +(\d[\d,-]*) +(\d+) +(\d+|-) +- +- ", re.M)


def test(bench):
    # mpirun of Open MPI 5 sets the last two in every rank
    env = {"NCCL_DEBUG": "WARN", "UCX_TLS": "tcp", "OMPI_MCA_btl_base_verbose": "0", "FI_PROVIDER": "tcp", "UCXY": "no",
           "OMPI_MCA_cpu_type": "x86_64", "OMPI_MCA_num_procs": "2"}
    out = bench.folder / "run"
    r = bench.good(*bench.sft_args(out, steps=2), ranks=2, env=env)
    rows = ROW.findall(r.err)
    bench.check([row[0] for row in rows] == ["0", "1"], "table of ranks:", rows, r.err[:2000])
    bench.check(all(row[3] == "1" for row in rows), "threads:", rows)
    got = json.loads((out / "run.json").read_text())["sessions"][0]["environment"]
    for name in ("UCXY", "OMPI_MCA_cpu_type", "OMPI_MCA_num_procs"):
        del env[name]
    bench.check({k: got.get(k) for k in env} == env, "run.json, environment:", got)
    bench.check(not [k for k in got if k.startswith(("OMPI_MCA_orte", "OMPI_MCA_ess", "OMPI_MCA_cpu", "OMPI_MCA_num")) or k == "UCXY"],
                "variables that mpirun sets, or others:", got)
    for key in env:
        bench.check(f'"{key}"' in r.err, "not printed:", key)
    alone = bench.good(*bench.sft_args(bench.folder / "alone", steps=2))
    bench.check(not ROW.findall(alone.err), "one rank has a table:", alone.err)
    allowed = os.sched_getaffinity(0)
    words = "shares its 1 cores with other ranks, and together they have 2 threads"
    bench.check(words not in r.err, "warns about ranks that are not bound:", r.err[:2000])
    if shutil.which("taskset") and len(allowed) > 1:
        command = ["taskset", "-c", str(min(allowed)), *bench.command(["doctor"], ranks=2, threads=None)]
        bound = subprocess.run(command, capture_output=True, text=True, check=False, timeout=common.LIMIT)
        bench.check(bound.returncode == 0 and words in bound.stderr, "two ranks on one core:", bound.stderr)
    else:
        print("not run: ranks on one core (no taskset, or a single core)")


common.main(test, needs_mpi=True)
