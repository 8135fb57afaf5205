#!/usr/bin/env python3
"""stories.py MODEL_DIR [--ranks 2] [--methods psle,dpo,vcb --seeds 1,2,3] - aligns a small pretrained story model with a word-list reward.

MODEL_DIR is a Hugging Face folder of a small Llama that was trained on TinyStories, such as stories260K. The script
writes to runs/stories: beginnings of stories as prompts, a principle (a joyful sentence in front of the prompt) and
configurations. Without --methods it trains the model by PSLE for 8 iterations and evaluates the start and the trained
model on held-out prompts. With --methods it runs methods.py, which compares the methods over several seeds. Needs the
standard library only."""
import argparse
import itertools
import json
import pathlib
import shutil
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "runs/stories"
NAMES = "Lily Tom Ben Anna Sam Mia Max Sue Tim Lucy Jack Amy Leo Emma Dan Kate".split()
KINDS = ["little girl", "little boy", "small dog", "big cat", "kind bird", "young bear"]
FILES = {"psle": "align"}  # methods.py reads the configuration of psle from align.yaml
WISHES = ["liked to play outside", "wanted to find a new friend", "lived in a big house", "had a red ball",
          "went to the park", "loved to help", "saw a big tree", "was very hungry"]
HAPPY = "happy smile smiled laugh laughed love loved fun play played friend friends hug hugged joy glad thank proud excited".split()
PRINCIPLE = "They were so happy. They laughed and smiled and played with their friends. It was so much fun."

CONFIG = """# PSLE on a story model: happier stories, by a word list. Written by benchmarks/stories.py.
model: {model}
output_dir: runs/stories/{method}
seed: 1
data: {{prompts: runs/stories/prompts.jsonl, eval: runs/stories/eval.jsonl}}
generate: {{temperature: 1.0, max_new_tokens: 80, group_size: 4, slots: 64}}
method:
  name: {method}
  principles: runs/stories/principle.txt
  principle_template: "{{principle}} {{prompt}}"
reward:
  functions:
    - {{name: words, words: [{words}]}}
    - {{name: repetition, weight: 0.2, target: 3}}
train: {{iterations: 8, prompts_per_iteration: 128, global_batch_size: 32, micro_batch_size: 4, learning_rate: {rate}, beta2: 0.95}}
eval: {{samples: 2}}
"""


def run(*command):
    print("$", " ".join(command), flush=True)
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        sys.exit(1)


def write_configs(args, methods):
    """Writes METHOD.yaml for each method, and the same text as eval.yaml. `plumb eval` ignores the sections that it does
    not use."""
    for name, method in [(m, m) for m in {m.split(":")[0] for m in methods}] + [("eval", "psle")]:
        text = CONFIG.format(model=args.model, words=", ".join(HAPPY), rate=args.rate, method=method)
        (OUT / f"{FILES.get(name, name)}.yaml").write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--ranks", default="2")
    parser.add_argument("--rate", default="1.0e-4")
    parser.add_argument("--methods", default="")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--rates", default="5e-5,1e-4,2e-4")
    parser.add_argument("--max-kl", default="0")
    args = parser.parse_args()
    # with --methods the folder stays, because methods.py continues an interrupted call
    if not args.methods:
        shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True, exist_ok=True)
    openings = [f"Once upon a time, there was a {kind} named {name}. {name} {wish}."
                for name, kind, wish in itertools.product(NAMES, KINDS, WISHES)]
    held_out = openings[::6]
    training = [o for i, o in enumerate(openings) if i % 6]
    for name, texts in (("prompts", training), ("eval", held_out)):
        (OUT / f"{name}.jsonl").write_text("".join(json.dumps({"prompt": t}) + "\n" for t in texts))
    (OUT / "principle.txt").write_text(PRINCIPLE + "\n")
    write_configs(args, args.methods.split(",") if args.methods else ["psle"])
    if args.methods:
        run("./benchmarks/methods.py", "--configs", "runs/stories", "--start", args.model, "--tune-on", "runs/stories/prompts.jsonl", "--judge", "",
            "--methods", args.methods, "--seeds", args.seeds, "--rates", args.rates, "--max-kl", args.max_kl, "--ranks", args.ranks, "--out", "runs/stories/methods")
        return
    run("./launch/local.sh", args.ranks, "align", "runs/stories/align.yaml")
    run("./launch/local.sh", args.ranks, "eval", "runs/stories/eval.yaml", "output_dir=runs/stories/eval",
        f"eval.models=start={args.model},PSLE=runs/stories/psle/latest")
    models = json.loads((OUT / "eval/eval.json").read_text())["models"]
    start, end = models
    gain = (end["reward"] - start["reward"]) / start["reward_std"]
    rows = [json.loads(line) for line in (OUT / "psle/metrics.jsonl").read_text().splitlines()]
    print(f"held-out reward {start['reward']:.4f} -> {end['reward']:.4f}: {gain:+.2f} standard deviations of the start "
          f"({start['reward_std']:.4f}); KL to the start in the last iteration {rows[-1]['kl']:.2f} nats per completion, "
          f"{statistics.mean(r['tokens_per_second'] for r in rows):.0f} tokens/s")


if __name__ == "__main__":
    main()
