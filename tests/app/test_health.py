#!/usr/bin/env python3
"""test_health.py: checks the limits in the section `health` of the configuration: the message when a
value of a run is beyond its limit. With health.action=stop, all ranks end the run after they have
written the metrics or rollouts that show the reason."""
import common

LENGTH = "reward.functions=[{name: length, target: 4}]"
EQUAL = "reward.functions=[{name: repetition, weight: 0}]"

OFF = {"max_kl": 0, "min_entropy": 0, "max_clipped": 1, "max_duplicates": 1, "max_equal_rewards": 1}

# name of the limit: (options of a run that crosses it, parts of the expected message)
UNHEALTHY = {
    "max_kl": (["health.max_kl=1e-9", "iterations=3", "learning_rate=1e-2"], ["nats per token from the start", "exploits the reward"]),
    "min_entropy": (["health.min_entropy=1e3"], ["hardly varies", "generate.temperature"]),
    "max_clipped": (["max_new_tokens=1"], ["are cut at generate.max_new_tokens"]),
    "max_duplicates": (["temperature=0"], ["100 % of the answers repeat another answer"]),
    "max_equal_rewards": ([EQUAL], ["all 64 rewards are"]),
}


def rollouts(bench, base):
    for name, (more, words) in UNHEALTHY.items():
        given = [] if EQUAL in more else [LENGTH]
        others = [f"health.{x}={off}" for x, off in OFF.items() if x != name]
        args = lambda out: bench.align_args(out, base, *given, *others, *more, method="raft")
        r = bench.good(*args(bench.folder / name))
        for word in (f"warning: health.{name}: iteration", *words):
            bench.check(word in r.err, name, "says nothing of", word, r.err[-1500:])
        # this message may have another cause in each iteration, so every iteration prints it
        twice = name == "max_equal_rewards"
        bench.check(r.err.count(f"health.{name}:") == 1 + twice, name, "is not said once", r.err[-1500:])
        out = bench.folder / f"{name}-stop"
        r = bench.run(*args(out), "health.action=stop", ranks=2 if bench.mpirun else 1)
        bench.check(r.code == 8 and f"health.{name}: iteration" in r.err and "health.action is stop" in r.err, name, r)
        bench.check(sorted((out / "rollouts").glob("iteration-*1.h5")), name, "left no rollouts")
    off = [f"health.{x}={value}" for x, value in OFF.items()]
    r = bench.good(*bench.align_args(bench.folder / "off", base, EQUAL, "temperature=0", "max_new_tokens=1", *off,
                                     "health.action=stop", method="raft"))
    bench.check("health." not in r.err, "limits that are off:", r.err[-1500:])


def healthy(bench, base):
    out = bench.folder / "healthy"
    r = bench.good(*bench.align_args(out, base, LENGTH, "health.max_clipped=1",
                                     "health.max_equal_rewards=1", method="raft"))
    bench.check("health." not in r.err, "a healthy run:", r.err[-1500:])
    shares = [x["completions/duplicate_ratio"] for x in common.metrics(out)]
    answers = common.rollout_answers(out, 1)
    groups = [[tuple(a["ids"]) for a in answers[i:i + 4]] for i in range(0, len(answers), 4)]
    want = sum(len(g) - len(set(g)) for g in groups) / sum(len(g) - 1 for g in groups)
    bench.check(abs(shares[0] - want) < 1e-9, "completions/duplicate_ratio", shares, "expected", want)


def loss(bench):
    """Checks the message about a jump of the loss. The last records of the file are of another kind, and
    data.shuffle is off."""
    path = bench.folder / "jump.jsonl"
    path.write_text('{"prompt": "ask: hi.", "completion": " yes."}\n' * 40 * 8 +
                    '{"prompt": "ask: hi.", "completion": " coins soup max tell price shop please"}\n' * 8)
    args = lambda out, *more: bench.sft_args(out, f"data.train={path}", "data.shuffle=false", "global_batch_size=8",
                                             "learning_rate=1e-2", "train.epochs=1", *more, steps=41)
    r = bench.good(*args(bench.folder / "jump"))
    bench.check("health.max_loss_jump: step 41: the loss is" in r.err, "no word of the jump", r.err[-1500:])
    r = bench.good(*args(bench.folder / "jump-off", "health.max_loss_jump=0"))
    bench.check("health." not in r.err, "a limit that is off", r.err[-1500:])
    out = bench.folder / "jump-stop"
    r = bench.run(*args(out, "health.action=stop"), ranks=2 if bench.mpirun else 1)
    last = common.metrics(out)[-1] if (out / "metrics.jsonl").exists() else {}
    bench.check(r.code == 8 and "health.max_loss_jump" in r.err and last.get("step") == 41, "jump, stop:", r, last)


def test(bench):
    base = bench.base()
    rollouts(bench, base)
    healthy(bench, base)
    loss(bench)


common.main(test)
