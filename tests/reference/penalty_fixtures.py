#!/usr/bin/env python3
"""penalty_fixtures.py PLUMB: writes tests/fixtures/penalty.json: results of transformers in float64 for
a fixture model with a repetition penalty.
Each case has the prompt, the penalty, the temperature and the completion. With temperature 0,
transformers generates the completion greedily; otherwise it is the one that PLUMB drew with seed 5. Each
case also has the log-probs of its tokens under the raw logits, and under transformers'
RepetitionPenaltyLogitsProcessor followed by its TemperatureLogitsWarper."""
import json
import pathlib
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "model"
FOLDER, LENGTH = FIXTURES / "qwen3_norm", 24


def drawn(plumb, index, prompt, penalty, temperature):
    """Returns the completion that plumb draws for record number `index`. The random numbers
    depend on this number, so all records before it are generated, too."""
    lines = "".join(json.dumps({"prompt_ids": prompt}) + "\n" for _ in range(index + 1))
    out = subprocess.run([plumb, "generate", f"model={FOLDER}", "prompts=-", f"max_new_tokens={LENGTH}", "seed=5", "ignore_eos=true",
                          f"temperature={temperature}", f"repetition_penalty={penalty}"],
                         input=lines, text=True, capture_output=True, check=True).stdout
    return json.loads(out.splitlines()[index])["completion_ids"]


def main():
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float64)
    model.generation_config.eos_token_id = None  # plumb runs with ignore_eos
    v = model.config.vocab_size
    cases = []
    for index, (penalty, temperature) in enumerate([(1.0, 0), (1.4, 0), (1.4, 0.7), (0.8, 1.3)]):
        prompt = [(7 * i * i + 3 * index) % v for i in range(9)] + [5, 5]
        lower, warm = RepetitionPenaltyLogitsProcessor(penalty), TemperatureLogitsWarper(temperature or 1.0)
        if temperature:
            ids = drawn(sys.argv[1], index, prompt, penalty, temperature)
        else:
            asked = torch.tensor([prompt])
            ids = model.generate(asked, attention_mask=torch.ones_like(asked), max_new_tokens=LENGTH, do_sample=False,
                                 repetition_penalty=penalty)[0, len(prompt):].tolist()
        whole = torch.tensor([prompt + ids])
        with torch.no_grad():
            logits = model(whole).logits[0, len(prompt) - 1:-1]
        raw, sampled = [], []
        for k, token in enumerate(ids):
            row = logits[k:k + 1].clone()
            raw.append(torch.log_softmax(row, -1)[0, token].item())
            row = warm(None, lower(whole[:, :len(prompt) + k], row))
            sampled.append(torch.log_softmax(row, -1)[0, token].item())
        cases.append({"penalty": penalty, "temperature": temperature, "prompt": prompt, "ids": ids, "logp": raw, "logp_sampled": sampled})
    (FIXTURES.parent / "penalty.json").write_text(json.dumps({"model": FOLDER.name, "cases": cases}, indent=1) + "\n")


main()
