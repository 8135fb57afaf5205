#!/usr/bin/env python3
"""test_balance.py: generate.balance: a run whose long completions all belong to the prompts of one rank. With
`length` the ranks generate about equally many tokens, and the files are the same bytes as without, also when the
run is stopped again and again and goes on with other ranks or without balance; load.jsonl counts the tokens.
With `queue` the bytes are the same too, whoever takes a prompt, and every prompt has one maker."""
import json
import shutil

import common

BALANCED, QUEUE = "generate.balance=length", "generate.balance=queue"
PROMPTS, WORDS = 16, 40  # words of a long completion
# Places of the prompts with long completions, for a number of ranks: the first rank owns them all. On 2 ranks, a deal
# by the lengths of the prompts, which are all alike, gives them all to one rank again.
LONG = {2: (0, 2, 4, 6), 4: (0, 1, 2, 3)}


def world(bench):
    """Makes a model that answers 'long N' with many words and 'tell N' with one. All prompts have equally many tokens."""
    words = " ".join(["be kind"] * (WORDS // 2))
    data = bench.folder / "lengths.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"{kind} {10 + i}", "completion": answer}) + "\n"
                            for i in range(PROMPTS) for kind, answer in (("long", words), ("tell", " ok"))))
    out = bench.folder / "lengths"
    bench.good(*bench.sft_args(out, f"data.train={data}", "learning_rate=1e-2", "epochs=40", steps=80))
    for ranks, places in LONG.items():
        (bench.folder / f"clustered-{ranks}.jsonl").write_text("".join(
            json.dumps({"prompt": f"{'long' if i in places else 'tell'} {10 + i}"}) + "\n" for i in range(PROMPTS)))
    return out / "latest"


def args(bench, base, out, layout, *more):
    return bench.align_args(out, base, f"data.prompts={bench.folder}/clustered-{layout}.jsonl", "data.shuffle=false",
                            "reward.functions=[{name: length, target: 6}]", "global_batch_size=16", "slots=4",
                            "temperature=0.7", "max_new_tokens=64", "learning_rate=1e-5", *more,
                            method="raft", iterations=3, prompts=PROMPTS, group=2)


def tails(out):
    """The tail of each iteration in tokens and in decode steps, from metrics.jsonl."""
    return [(row["comm/tail_tokens"], row["comm/tail_steps"]) for row in common.metrics(out)]


def check_load(bench, out, ranks, what):
    """load.jsonl against metrics.jsonl and the rollout files."""
    lines = [json.loads(x) for x in (out / "load.jsonl").read_text().splitlines()]
    rows = common.metrics(out)
    bench.check([x["iteration"] for x in lines] == [r["iteration"] for r in rows], what, "iterations", lines)
    for line, row in zip(lines, rows):
        tokens = sum(len(a["ids"]) for a in common.rollout_answers(out, line["iteration"]))
        bench.check(sum(line["rollout/tokens"]) == tokens and len(line["rollout/tokens"]) == ranks, what, "tokens", tokens, line)
        tail = max(line["rollout/tokens"]) * ranks / tokens
        bench.check(abs(tail - row["comm/tail_tokens"]) < 1e-9, what, "tail", tail, row)
        for phase in ("rollout", "reward", "reference", "train"):
            idle = line[f"idle/{phase}"]
            bench.check(len(idle) == ranks and all(0 <= x <= 1 for x in idle), what, phase, idle)
            bench.check(abs(sum(idle) / ranks - row[f"comm/idle_{phase}"]) < 1e-4, what, phase, idle, row)


def test(bench):
    if not shutil.which("h5dump"):
        common.skip("there is no h5dump to read rollouts with")
    base = world(bench)
    for ranks in LONG:
        one, plain, dealt = (bench.folder / f"{name}-{ranks}" for name in ("one", "plain", "dealt"))
        bench.good(*args(bench, base, one, ranks, BALANCED))
        bench.check(not (one / "load.jsonl").exists() and "comm/tail_tokens" not in common.metrics(one)[0], "the load of one rank")
        bench.good(*args(bench, base, plain, ranks), ranks=ranks)
        bench.good(*args(bench, base, dealt, ranks, BALANCED), ranks=ranks)
        for out in (plain, dealt):
            bench.same_run(one, out, f"{out.name}:")
            check_load(bench, out, ranks, f"{out.name}:")
        print(f"{ranks} ranks: tail in tokens and in steps of each iteration: none {tails(plain)}, length {tails(dealt)}", flush=True)
        for a, b in list(zip(tails(plain), tails(dealt)))[1:]: # the first iteration knows no lengths
            for x, y, unit in zip(a, b, ("tokens", "decode steps")):
                bench.check(x > 1.4 and y < 1.1, ranks, "ranks: the tail in", unit, "is", y, "with balance,", x, "without")
        got = bench.good("top", dealt, threads=None).out
        bench.check("idle" in got and "most work" in got and f"of {ranks} ranks" in got, "top", got)
    bench.check(tails(bench.folder / "dealt-2")[0][0] > 1.4, "the first deal knows no lengths, and the test shows nothing")
    queue(bench, base)
    planned(bench, base)
    recalled(bench, base, bench.folder / "dealt-2")
    stopped(bench, base, bench.folder / "one-4")


def queue(bench, base):
    """Prompts that a rank takes when it has a free slot. 4 slots hold 2 prompts, so most of the 16 are in the queue."""
    for layout, ranks in ((2, 2), (4, 3), (4, 4)):
        out, one = bench.folder / f"queue-{ranks}", bench.folder / f"one-{layout}"
        bench.good(*args(bench, base, out, layout, QUEUE), ranks=ranks)
        if ranks != 3: # other bytes than a power of two
            bench.same_run(one, out, f"queue on {ranks} ranks:")
        check_load(bench, out, ranks, f"queue on {ranks} ranks:")
        for line in (json.loads(x) for x in (out / "load.jsonl").read_text().splitlines()):
            made = line["rollout/made_by"]
            bench.check(len(made) == PROMPTS and set(made) <= set(range(ranks)), "makers", made)
            most = 2 * -(-PROMPTS // ranks)
            bench.check(all(made.count(r) <= most for r in range(ranks)), "a rank made more than its memory was planned for:", made)
    one, out = bench.folder / "one-4", bench.folder / "room"
    bench.good(*args(bench, base, out, 4, QUEUE, "slots=64"), ranks=4) # all prompts begin at once: they are dealt
    bench.same_run(one, out, "queue with many slots:")
    dealt = bench.folder / "dealt-all"
    bench.good(*args(bench, base, dealt, 4, BALANCED, "slots=64"), ranks=4)
    made = [[json.loads(x)["rollout/made_by"] for x in (o / "load.jsonl").read_text().splitlines()] for o in (out, dealt)]
    bench.check(made[0] == made[1], "with room for all prompts, queue and length deal them differently:", made)


def planned(bench, base):
    """The plan counts the completions that a rank generates for others: here as many as two even shares."""
    def answers(*more):
        out = bench.folder / "plan.json"
        bench.good("plan", *args(bench, base, bench.folder / "no", 4, "plan.world_size=4", f"output={out}", *more))
        return sum(row["bytes"] for row in json.loads(out.read_text())["rows"] if row["what"] == "answers")
    none, dealt = answers(), answers(BALANCED)
    bench.check(2.5 * none < dealt < 4 * none, "planned answers", none, dealt)


def recalled(bench, base, whole):
    """After a kill, the next session knows the lengths from the rollout files: its first deal is as good as before."""
    out = common.rewind(whole, bench.folder / "recalled", common.metrics(whole)[1]["step"])
    bench.good(*args(bench, base, out, 2, BALANCED, "resume=auto"), ranks=2)
    bench.same_run(whole, out, "recalled:")
    a, b = ((x / "load.jsonl").read_text().splitlines() for x in (whole, out))
    a, b = ([json.loads(x)["rollout/tokens"] for x in lines] for lines in (a, b))
    bench.check(a == b, "the deal after a kill differs:", a, b)


def stopped(bench, base, whole):
    """Stopped within rollouts, resumed on other ranks, with and without balance."""
    out = bench.folder / "stopped"
    setups = ((2, [BALANCED]), (4, [QUEUE]), (1, []), (4, []), (2, [QUEUE]), (4, [BALANCED]))
    sessions = bench.in_sessions(*args(bench, base, out, 4), ranks=[n for n, _ in setups], setups=[more for _, more in setups],
                                 growth=1.25)
    kept = sum("tokens kept" in r.err and " 0 tokens kept" not in r.err for r in sessions)
    bench.check(sessions[-1].code == 0 and len(sessions) > 3, "sessions", len(sessions), sessions[-1])
    print(len(sessions) - 1, "sessions were stopped,", kept, "went on within a rollout", flush=True)
    bench.check(kept > 0, "no session went on with the tokens of another")
    bench.same_run(whole, out, "stopped and resumed:")


if __name__ == "__main__":
    common.main(test, needs_mpi=True)
