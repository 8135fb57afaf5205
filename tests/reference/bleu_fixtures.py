#!/usr/bin/env python3
"""bleu_fixtures.py OUT.json - writes texts with sacrebleu's tokens and BLEU scores, for
tests/eval/test_bleu.c.

Needs sacrebleu 2.x. Every corpus has answers, one reference for each answer, the 13a tokens of the answers,
and the score of sacrebleu.metrics.BLEU() with its default settings (13a, case-sensitive, exponential
smoothing)."""
import json
import random
import sys

from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

WORDS = "the a cat dog sat on mat, quickly. U.S. 3.14 1,000 20-30 well-known don't (yes) & ; : ? ! Ünïted 猫 «vers»".split()
HARD = ["Hello, world!", "It costs $3.50 - or 1,000.", "a-b 3-4 5-x", "&lt;b&gt; &amp;lt; &quot;q&quot;", "end.", ".5 and 5. and ,,,",
        "cut-\nhere and\nthere", "tail-\n", "trailing \u00a0\u3000 ", "x\u00a0y\u2028z\x1cw", "<skipped>gone", "", "   ", "e.g., i.e. {x}[y]`z~",
        "naïve café 猫。犬", "1.2.3,4", "-5 --6 7-", "a\tb\r\nc"]


def sentence(rng):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 14)))


def corpora():
    rng = random.Random(7)
    yield HARD, HARD
    yield HARD, HARD[1:] + HARD[:1]
    yield ["the cat sat on the mat"], ["the cat sat on the mat"]
    yield ["the the the the the the the"], ["the cat is on the mat"]
    yield ["one two"], ["one two three"]                       # no 3-grams, so the score is 0
    # orders without a match, which are smoothed
    yield ["a b c d e"], ["a x c y e"]
    yield ["nothing in common here"], ["other words only now"]
    yield ["short answer to a question"], ["a much longer answer to a question than the short one"]
    for _ in range(12):
        references = [sentence(rng) for _ in range(6)]
        yield [" ".join(w for w in r.split() if rng.random() < .8) + " " + rng.choice(WORDS) for r in references], references


def main():
    tokenize, out = Tokenizer13a(), []
    for answers, references in corpora():
        out.append({"answers": answers, "references": references, "tokens": [tokenize(a.rstrip()).split() for a in answers],
                    "score": BLEU().corpus_score(answers, [references]).score})
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write("[" + ",\n".join(json.dumps(c) for c in out) + "]\n")


if __name__ == "__main__":
    main()
