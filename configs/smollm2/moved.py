#!/usr/bin/env python3
"""moved.py EVAL.JSON METRICS.JSONL - prints in sentences how SFT and PSLE of launch/real.sh changed the model, from the
evaluation of three models and the metrics of the PSLE run. An interval is the 95 % bootstrap interval over the prompts."""
import json
import sys


def line(m):
    low, high = m["reward_interval"]
    text = f"  {m['name']:<11} {100 * m['reward']:3.0f} % right [{100 * low:.0f}, {100 * high:.0f}], {m['mean_length']:.1f} tokens per answer"
    return text if m["kl"] is None else text + f", {m['kl']:.2f} nats from the pretrained model"


def verdict(what, before, after):
    apart = after["reward_interval"][0] > before["reward_interval"][1] or after["reward_interval"][1] < before["reward_interval"][0]
    change = 100 * (after["reward"] - before["reward"])
    return f"{what} changed it by {change:+.0f} points" + ("." if apart else ", which is within the noise of this evaluation.")


def main(evaluation, metrics):
    found = json.load(open(evaluation, encoding="utf-8"))
    models = found["models"]
    rows = [json.loads(x) for x in open(metrics, encoding="utf-8")]
    print(f"What moved, on {found['prompts']} held-out sums, {found['samples']} answers to each:")
    for m in models:
        print(line(m))
    print(verdict("SFT", models[0], models[1]))
    print(verdict("PSLE", models[1], models[2]))
    print("In training, PSLE's share of right answers was " +
          ", ".join(f"{100 * x['psle/reward_plain']:.0f} %" for x in rows) + " for plain prompts and " +
          ", ".join(f"{100 * x['psle/reward_principled']:.0f} %" for x in rows) + " for prompts with principles, by iteration.")


if __name__ == "__main__":
    main(*sys.argv[1:])
