#!/usr/bin/env python3
"""mutations.py - faults that the tests must catch: each is put into a copy of the source, and the
tests named with it must fail. --check only looks whether the places are still there."""
import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# compiled quickly: the kernels of the sanitized build need not be fast
SANITIZED = ["-Db_sanitize=address,undefined", "-Db_lundef=false", "-Dmpi=disabled",
             "-Doptimization=0"]


class Mutation:
    """old becomes new in file; every test of `tests` must fail. asan: in a sanitized build."""

    def __init__(self, name, file, old, new, *tests, asan=False):
        self.name, self.file, self.old, self.new = name, file, old, new
        self.tests, self.asan = tests, asan


MUTATIONS = [
    # those that STYLE.md names
    Mutation("flipped gradient sign", "src/align/objective.c",
             "beta * dh, -beta * dh};", "-beta * dh, beta * dh};", "align objective"),
    Mutation("flipped gradient sign, weighted loss", "src/align/obj_sft.c",
             "out->dlogp[i] -= in->scale * share;", "out->dlogp[i] += in->scale * share;",
             "align objective"),
    Mutation("mean over the rank, align", "src/train/align_update.c",
             "m->scale = 1.0 / a->terms;",
             "m->scale = plumb_comm_size(a->t->comm) / a->terms;", "app ranks"),
    Mutation("mean over the rank, sft", "src/train/sft.c",
             "1.0 / (double)plumb_max_i64(targets, 1);",
             "plumb_comm_size(s->t->comm) / (double)plumb_max_i64(targets, 1);", "app ranks"),
    Mutation("doubled eps, AdamW", "src/train/optim.c",
             ".eps = (float)p->eps,", ".eps = 2 * (float)p->eps,", "train optim"),
    Mutation("doubled eps, RMSNorm", "kernels/cpu/rmsnorm.c",
             "/ (float)f->c + f->eps);", "/ (float)f->c + 2 * f->eps);", "kernels all"),
    Mutation("dropped barrier", "src/comm/collective.c",
             "    const double token = 0;\n    double heard;\n",
             "    const double token = 0;\n    double heard;\n    if (c->size > 1)\n"
             "        return PLUMB_OK;\n", "comm thread 4"),
    Mutation("completion mask off by one", "src/model/pass.c",
             "for (int64_t j = b->prompt_tokens[i]; j < len; j++) {",
             "for (int64_t j = b->prompt_tokens[i] + 1; j < len; j++) {", "model gap"),
    Mutation("completion begins one token early", "src/train/pack.c",
             "p->prompt_tokens[p->n_seq++] = n_prompt;",
             "p->prompt_tokens[p->n_seq++] = n_prompt > 1 ? n_prompt - 1 : n_prompt;",
             "train pack"),
    Mutation("RoPE pair swapped, cpu", "kernels/cpu/rope.c",
             "v16_sub(v16_mul(u, cj), v16_mul(v, sj))", "v16_sub(v16_mul(v, cj), v16_mul(u, sj))",
             "kernels all"),
    Mutation("RoPE sine and cosine swapped, ref", "kernels/ref/rope.c",
             "*c = cos_sin + pos[i] * d, *s = c + half;",
             "*s = cos_sin + pos[i] * d, *c = s + half;", "kernels all"),
    Mutation("leaked allocation", "src/train/gradient.c",
             "    free(g->slot);\n", "", "train gradient", asan=True),
    Mutation("arena overrun", "src/train/gradient.c",
             '&g->sum[i], count, "grad")', '&g->sum[i], count - 1, "grad")', "train gradient",
             asan=True),
    Mutation("lost micro-batch", "src/train/gradient.c",
             "return run_leaves(g, mine, mine.end - mine.begin, fn, arg);",
             "const int64_t n = mine.end - mine.begin;\n"
             "    return run_leaves(g, mine, n - (n > 1), fn, arg);",
             "train gradient"),
    Mutation("reference log-prob of the first iteration only", "src/train/align_update.c",
             "        if (a->role[role] >= 0)\n",
             "        if (a->role[role] >= 0 && a->t->state.iteration == 0)\n",
             "app ranks"),
    Mutation("reference log-prob of the current weights", "src/train/references.c",
             "plumb_pass_logprob(pass, weights, &batch, pack->logp)",
             "plumb_pass_logprob(pass, r->policy, &batch, pack->logp)", "app ranks"),
    # promises 1 to 4
    Mutation("sum in leaf order, not along the tree", "src/comm/tree.c",
             "return (struct plumb_tree_step){height, t == count - 1 ? height : full};",
             "(void)height, (void)full;\n    return (struct plumb_tree_step){t > 0, t > 0};",
             "app ranks"),
    Mutation("attention block order from the batch", "kernels/cpu/attention.c",
             "    if (from < to)\n"
             "        mm(o, dp, (struct mat){s + from, PAGE, 1}, v + from * ldv, ldv, n, dp, "
             "to - from, true);\n"
             "    for (int64_t i = 0; i < n; i++)\n"
             "        add_values(t, p + i, v, ldv, plumb_max_i64(to, begin[i]), end[i]);\n",
             "    for (int64_t i = 0; i < n; i++)\n"
             "        add_values(t, p + i, v, ldv, plumb_max_i64(to, begin[i]), end[i]);\n"
             "    if (from < to)\n"
             "        mm(o, dp, (struct mat){s + from, PAGE, 1}, v + from * ldv, ldv, n, dp, "
             "to - from, true);\n", "kernels all"),
    Mutation("random numbers keyed by slot", "src/model/generate.c",
             ".sample = (uint32_t)s->sample,", ".sample = (uint32_t)i,", "model generate"),
    Mutation("random numbers keyed by rank", "src/train/align.c",
             "plumb_generate_options_of(a->t->cfg, a->t->state.iteration + 1)",
             "plumb_generate_options_of(a->t->cfg, a->t->state.iteration + 1 + "
             "100 * plumb_comm_rank(a->t->comm))", "app ranks"),
    Mutation("shard border off by one", "src/comm/reduce.c",
             "plumb_min_i64(piece.begin + lower, piece.end);",
             "plumb_min_i64(piece.begin + lower + 1, piece.end);", "train optim"),
    Mutation("an element at the shard border lost", "src/comm/reduce.c",
             "return upper ? (struct plumb_range){mid, piece.end}",
             "return upper ? (struct plumb_range){mid + (mid < piece.end), piece.end}",
             "comm thread 4"),
    Mutation("ranks' parts lost", "src/comm/tree.c",
             "plumb_stream_add(dst, src, n);", "(void)dst, (void)src, (void)n;", "comm thread 4"),
    Mutation("second moments not restored", "src/train/checkpoint.c",
             "        PLUMB_TRY_GOTO(st, read_part(h5, dir, o, 1, &m->param[i], o->v), done);\n",
             "", "train checkpoint", "app resume"),
    Mutation("optimizer step not restored", "src/train/checkpoint.c",
             "    o->step = state->step;\n", "", "train checkpoint"),
    Mutation("threshold state not restored", "src/train/align_setup.c",
             'plumb_state_get(&a->t->state, "threshold.tau", a->threshold.tau)',
             "a->threshold.tau", "app resume"),
    Mutation("prompt cursor not restored", "src/train/state.c",
             "FIELD(prompt_cursor, false), ", "", "app resume"),
    Mutation("hash check skipped", "src/train/manifest.c",
             "PLUMB_REQUIRE(!strcmp(text, want_hash), PLUMB_ERR_FORMAT,",
             "PLUMB_REQUIRE(want_hash[0], PLUMB_ERR_FORMAT,", "train checkpoint"),
    Mutation("metrics ahead of the checkpoint stay", "src/train/metrics.c",
             "if (step > k->steps || iteration > k->iterations)",
             "if (step > k->steps + 1000)", "train metrics"),
    Mutation("latest stays behind after a kill", "src/train/checkpoint.c",
             'plumb_checkpoint_link(output_dir, "latest", mine)', "PLUMB_OK",
             "train checkpoint"),
]


def check():
    """Every place must be there exactly once."""
    bad = 0
    for m in MUTATIONS:
        found = (ROOT / m.file).read_text().count(m.old)
        if found != 1 or m.old == m.new:
            print(f"{m.name}: the text stands {found} times in {m.file}, expected once")
            bad += 1
    print(f"{len(MUTATIONS)} mutations, {bad} without their place")
    return bad


class Copy:
    """A copy of the committed and changed files, and its builds."""

    def __init__(self, folder, fresh):
        self.folder = Path(folder)
        if not fresh:
            return
        listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"],
                                capture_output=True, text=True, check=True).stdout.split("\n")
        for name in filter(None, listed):
            to = self.folder / name
            raw = (ROOT / name).read_bytes() if (ROOT / name).is_file() else None
            if raw is not None and (not to.exists() or to.read_bytes() != raw):
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(raw)
                shutil.copymode(ROOT / name, to)

    def build(self, asan):
        where = self.folder / ("build-asan" if asan else "build")
        if not (where / "build.ninja").exists():
            subprocess.run(["meson", "setup", where, *(SANITIZED if asan else [])], check=True,
                           cwd=self.folder, stdout=subprocess.DEVNULL)
        return where

    def test(self, tests, asan):
        """name -> result of each test, as meson calls it; {} when it does not build."""
        where = self.build(asan)
        log = where / "meson-logs" / "testlog.json"
        log.unlink(missing_ok=True)
        subprocess.run(["meson", "test", "-C", where, "--num-processes", "1",
                        "--timeout-multiplier", "5", *tests], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not log.exists():
            return {}
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        return {r["name"].split(":")[-1].strip().split(" / ")[-1]: r["result"] for r in rows}


def unsound(copy, mutations, asan):
    """Tests that fail without any mutation: they prove nothing."""
    tests = sorted({t for m in mutations for t in m.tests})
    result = copy.test(tests, asan)
    wrong = {t: result.get(t, "does not run") for t in tests if result.get(t) != "OK"}
    if wrong:
        print(f"without any mutation: {wrong}", flush=True)
    return set(wrong)


def try_one(copy, m):
    path = copy.folder / m.file
    before = path.read_text()
    path.write_text(before.replace(m.old, m.new))
    try:
        result = copy.test(m.tests, m.asan)
    finally:
        path.write_text(before)
    if not result:
        return "does not build"
    missed = [t for t in m.tests if result.get(t) in ("OK", "SKIP", None)]
    return f"survives {', '.join(missed)}" if missed else "caught"


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--check", action="store_true", help="only look whether the places are there")
    p.add_argument("--only", action="append", help="the mutations with this in their name")
    p.add_argument("--work", help="keep the copy and its builds in this folder")
    p.add_argument("--as-is", action="store_true", help="take what is in that folder already")
    p.add_argument("--out", help="write the table to this file, too")
    options = p.parse_args()
    if options.check:
        return 1 if check() else 0
    mutations = [m for m in MUTATIONS
                 if not options.only or any(o in m.name for o in options.only)]
    lines, caught, began = [], 0, time.monotonic()

    def say(line):
        print(line, flush=True)
        lines.append(line)
    folder = options.work or tempfile.mkdtemp(prefix="plumb-mutations-")
    try:
        copy = Copy(folder, not options.as_is)
        if check():
            return 1
        say("| mutation | in | tests that must fail | outcome |")
        say("|---|---|---|---|")
        for asan in (False, True):
            mine = [m for m in mutations if m.asan == asan]
            wrong = unsound(copy, mine, asan) if mine else set()
            for m in mine:
                bad = wrong.intersection(m.tests)
                outcome = f"{', '.join(bad)} fails without it" if bad else try_one(copy, m)
                caught += outcome == "caught"
                build = " (sanitized)" if m.asan else ""
                say(f"| {m.name} | {m.file} | {', '.join(m.tests)}{build} | {outcome} |")
    finally:
        if not options.work:
            shutil.rmtree(folder, ignore_errors=True)
    say("")
    say(f"{caught} of {len(mutations)} caught, {time.monotonic() - began:.0f} s.")
    if options.out:
        Path(options.out).write_text("\n".join(lines) + "\n")
    return 0 if caught == len(mutations) else 1


if __name__ == "__main__":
    sys.exit(main())
