#!/usr/bin/env python3
"""test_learning.py: checks that training learns: the loss of SFT falls, a reward model orders its pairs, and
every alignment method raises the reward that it trains on. A wrong sign of a gradient makes this test fail."""
import common


def test(bench):
    # align uses rewards computed by a function, not by a reward model, which would be too small
    # here
    sft = bench.folder / "sft"
    bench.good(*bench.sft_args(sft, "learning_rate=3e-3", "log_every=1", steps=60), threads=0)
    loss = [row["loss"] for row in common.metrics(sft)]
    bench.check(loss[0] > 6 and loss[-1] < 0.5 * loss[0], "sft loss", loss[0], "->", loss[-1])

    reward = bench.folder / "reward"
    bench.good(*bench.reward_args(reward, sft / "latest", "learning_rate=1e-3", "log_every=1",
                                  "epochs=20", steps=40), threads=0)
    rows = common.metrics(reward)
    first, last = rows[0]["loss"], sum(r["loss"] for r in rows[-5:]) / 5
    bench.check(abs(first - 0.69) < 0.3 and last < 0.8 * first, "reward loss", first, "->", last)

    # a reward that every model can learn in a few steps: short answers
    rule = "reward.functions=[{name: length, target: 2}]"
    for method in ("psle", "raft"):
        out = bench.folder / method
        bench.good(*bench.align_args(out, sft / "latest", rule, "learning_rate=5e-3",
                                     method=method, iterations=6, prompts=32), threads=0)
        plain = [row["psle/reward_plain"] for row in common.metrics(out)]
        bench.check(plain[-1] > plain[0] + 0.1, method, "plain reward", plain)


if __name__ == "__main__":
    common.main(test)
