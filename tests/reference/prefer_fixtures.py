"""Writes tests/fixtures/prefer/: a tiny Llama with a byte-level tokenizer, preference pairs,
and what TRL's DPOTrainer reports step by step when it trains the one on the other
(float32, CPU).

Run with a Python that has trl, transformers, torch:  python prefer_fixtures.py ../fixtures/prefer
"""
import json
import pathlib
import shutil
import sys
import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

STEPS, BATCH = 8, 6
WORDS = "the cat sat on a mat and saw one red bird while rain fell over two old roofs".split()


def make_model(folder):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<eos>": 0, **{c: i + 1 for i, c in enumerate(alphabet)}}
    tok = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens(["<eos>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<eos>", pad_token="<eos>")
    torch.manual_seed(3)
    config = LlamaConfig(vocab_size=len(vocab), hidden_size=16, intermediate_size=32,
                         num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=None,
                         eos_token_id=0, pad_token_id=0, initializer_range=0.2)
    model = LlamaForCausalLM(config).float()
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return model, fast


def make_pairs(n):
    g = torch.Generator().manual_seed(5)

    def text(lo, hi):
        k = int(torch.randint(lo, hi, (1,), generator=g))
        return " ".join(WORDS[int(i)] for i in torch.randint(len(WORDS), (k,), generator=g))

    return [dict(prompt=text(1, 5), chosen=" " + text(1, 7), rejected=" " + text(1, 7))
            for _ in range(n)]


class InOrder(DPOTrainer):
    def _get_train_sampler(self, *args, **kw):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def run(folder, pairs, **options):
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tok = PreTrainedTokenizerFast.from_pretrained(folder)
    scratch = tempfile.mkdtemp()
    args = DPOConfig(output_dir=scratch, max_steps=STEPS, per_device_train_batch_size=BATCH,
                     learning_rate=1e-3, lr_scheduler_type="constant",
                     logging_steps=1, save_strategy="no", report_to=[], use_cpu=True, bf16=False,
                     optim="adamw_torch", weight_decay=0.0, max_grad_norm=1.0, max_length=None,
                     gradient_checkpointing=False, disable_dropout=True, **options)
    trainer = InOrder(model=model, args=args, train_dataset=Dataset.from_list(pairs),
                      processing_class=tok)
    trainer.train()
    shutil.rmtree(scratch)
    keys = ("loss", "grad_norm", "learning_rate", "rewards/chosen", "rewards/rejected",
            "rewards/margins", "rewards/accuracies")
    rows = [{k: float(row[k]) for k in keys} for row in trainer.state.log_history if "loss" in row]
    assert len(rows) == STEPS
    return dict(options=options, rows=rows)


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    make_model(folder / "model")
    pairs = make_pairs(STEPS * BATCH)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs))
    runs = [run(folder / "model", pairs, beta=0.1),
            run(folder / "model", pairs, beta=0.5)]
    (folder / "trl.json").write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
