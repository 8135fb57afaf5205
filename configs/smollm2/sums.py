#!/usr/bin/env python3
"""sums.py FOLDER - writes the data of launch/real.sh: arithmetic questions in words, whose
answers a program can check.

sft.jsonl      320 conversations of a question and its answer
prompts.jsonl  192 questions, each with the right number as `solution`
eval.jsonl     128 further questions of this kind
No question is in two files. The numbers are drawn with a fixed seed, so the files are always the
same."""
import json
import random
import sys
from pathlib import Path

SIZES = {"sft": 320, "prompts": 192, "eval": 128}
PLUS = ["What is {a} + {b}?", "Add {a} and {b}.", "Tom has {a} apples and gets {b} more. How many apples does he have now?",
        "A bus carries {a} people and {b} more get on. How many people are on the bus?"]
MINUS = ["What is {a} - {b}?", "Subtract {b} from {a}.", "Anna has {a} coins and spends {b}. How many coins are left?",
         "There are {a} birds on a roof and {b} fly away. How many birds stay?"]


def main(folder):
    r = random.Random(7)
    sums = [(a, sign, b) for a in range(3, 60) for b in range(2, 30) for sign in "+-" if sign == "+" or a > b]
    r.shuffle(sums)
    folder.mkdir(parents=True, exist_ok=True)
    for name, n in SIZES.items():
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as f:
            for a, sign, b in (sums.pop() for _ in range(n)):
                right = a + b if sign == "+" else a - b
                asked = {"role": "user", "content": r.choice(PLUS if sign == "+" else MINUS).format(a=a, b=b)}
                if name == "sft":
                    line = {"messages": [asked, {"role": "assistant", "content": f"{a} {sign} {b} = {right}"}]}
                else:
                    line = {"prompt": [asked], "solution": right}
                f.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
