"""smollm2_trl.py MODEL FOLDER - writes FOLDER/trl.json: SFT and DPO of SmolLM2-135M-Instruct by TRL, 5 steps each in
float32, on conversations of several turns, which the file contains, too.

MODEL is a folder that configs/smollm2/convert_smollm2.py has written.
  sft     records of messages; loss, gradient norm, learning rate and entropy of every step with TRL's
  assistant_only_loss
  dpo     pairs of answers to conversations; the metrics of every step. The reference is the start model.
transformers needs {% generation %} to mark the assistant's text, which the model's template does not have. The script
adds it and asserts that the text stays the same. The end token and the line break after an answer are trained on, as in
TRL's own templates for the ChatML family.
Run with a Python that has trl, transformers and torch."""
import json
import pathlib
import random
import sys
import tempfile

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

STEPS, SFT_BATCH, DPO_BATCH = 5, 8, 4
SETTINGS = dict(learning_rate=2e-5, lr_scheduler_type="cosine", warmup_steps=1, max_grad_norm=1.0, weight_decay=0.01)
BETA = 0.1

ASKED = ["What is {a} + {b}?", "Name {a} animals.", "How do I write a loop in C?", "Translate “good morning” to French.",
         "Why is the sky blue?", "¿Qué hora es?", "Is {a} larger than {b}?", "Give me a haiku about the sea."]
ANSWERS = ["{a} + {b} is not hard: try it yourself.", "A cat, a dog and a mouse 🐭.", "for (int i = 0; i < {a}; i++)\n    f(i);\n",
           "Bonjour !", "Because short waves are scattered more.", "Son las {a}:{b}.", "No.", "Waves rise, waves fall back\n"]
SYSTEM = ["Answer briefly.", "You are a pirate.", "Réponds en français."]


def conversations():
    r = random.Random(11)

    def text(kind):
        return r.choice(kind).format(a=r.randrange(2, 60), b=r.randrange(2, 60))

    def talk(turns):
        out = [dict(role="system", content=r.choice(SYSTEM))] if r.random() < 0.3 else []
        for _ in range(turns):
            out += [dict(role="user", content=text(ASKED)), dict(role="assistant", content=text(ANSWERS))]
        return out

    sft = [dict(messages=talk(r.choice((1, 1, 2, 3)))) for _ in range(STEPS * SFT_BATCH)]
    dpo = []
    for _ in range(STEPS * DPO_BATCH):
        *head, last = talk(r.choice((1, 2)))
        other = last
        while other == last:
            other = dict(role="assistant", content=text(ANSWERS))
        dpo.append(dict(prompt=head, chosen=[last], rejected=[other]))
    return sft, dpo


def marked(template):
    """Returns the template with {% generation %} around the assistant's text."""
    turn = template[template.index("{{'<|im_start|>' + message['role']"):template.index("{% endfor %}")]
    said = "message['content'] + '<|im_end|>' + '\n'"
    assert turn == "{{'<|im_start|>' + message['role'] + '\n' + " + said + "}}", turn
    own = "{{ '<|im_start|>assistant\n' }}{% generation %}{{ " + said + " }}{% endgeneration %}"
    return template.replace(turn, "{% if message['role'] == 'assistant' %}" + own + "{% else %}" + turn + "{% endif %}")


class SFTInOrder(SFTTrainer):
    def _get_train_sampler(self, *args, **kw):
        return torch.utils.data.SequentialSampler(self.train_dataset)


class DPOInOrder(DPOTrainer):
    def _get_train_sampler(self, *args, **kw):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def load(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    # transformers drops the gradient of the pad token's embedding. Here the pad token is also the end token of every message,
    # so the pad index is removed.
    model.model.embed_tokens.padding_idx = None
    return model


def train(trainer, config, folder, tokenizer, records, batch, keys, **more):
    with tempfile.TemporaryDirectory() as scratch:
        args = config(output_dir=scratch, max_steps=STEPS, per_device_train_batch_size=batch, logging_steps=1, save_strategy="no",
                      report_to=[], use_cpu=True, bf16=False, optim="adamw_torch", max_length=None, gradient_checkpointing=False,
                      **SETTINGS, **more)
        t = trainer(model=load(folder), args=args, train_dataset=Dataset.from_list(records), processing_class=tokenizer)
        t.train()
    rows = [{k: float(x[k]) for k in keys} for x in t.state.log_history if "loss" in x]
    assert len(rows) == STEPS
    return rows


def main(folder, to):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sft, dpo = conversations()
    plain = tokenizer.chat_template
    twin = marked(plain)
    for x in sft:
        both = [tokenizer.apply_chat_template(x["messages"], chat_template=t, tokenize=False) for t in (plain, twin)]
        assert both[0] == both[1], both
    usual = ("loss", "grad_norm", "learning_rate", "entropy")
    margins = ("rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected")
    tokenizer.chat_template = twin
    sft_rows = train(SFTInOrder, SFTConfig, folder, tokenizer, sft, SFT_BATCH, usual, assistant_only_loss=True)
    tokenizer.chat_template = plain
    dpo_rows = train(DPOInOrder, DPOConfig, folder, tokenizer, dpo, DPO_BATCH, (*usual, *margins), beta=BETA, disable_dropout=True)

    def part(key, records, rows):
        listed = lambda values: "[\n" + ",\n".join(json.dumps(v, ensure_ascii=False) for v in values) + "\n]"
        return f'"{key}": {{"records": {listed(records)},\n"rows": {listed(rows)}}}'
    text = part("sft", sft, sft_rows) + ",\n" + part("dpo", dpo, dpo_rows)
    pathlib.Path(to, "trl.json").write_text("{" + text + "}\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
