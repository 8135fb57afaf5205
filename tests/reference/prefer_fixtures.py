"""Writes tests/fixtures/prefer/: a tiny Llama with a byte-level tokenizer, preference pairs, the
metrics of TRL's DPOTrainer at each step of training this model on the pairs, and the weights
after two steps of DPO, of DPO with label smoothing and of IPO (float32, CPU).

AdamW divides a gradient by its own size. The runs for the weights after two steps use a large
epsilon and no gradient clipping, nearly like plain SGD, so that the weights depend on the size of
the gradient, too.

Run with a Python that has trl, transformers and torch:  python prefer_fixtures.py
../fixtures/prefer"""
import json
import pathlib
import shutil
import sys
import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

STEPS, BATCH = 8, 6
# Number of tokens of each completion in level.jsonl, including the end token. TRL's IPO divides
# log-ratios by this length.
LEVEL = 10
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


def level(pairs):
    """Returns the pairs with every completion cut or filled to LEVEL - 1 bytes."""
    cut = lambda text: text.ljust(LEVEL - 1, "s")[:LEVEL - 1]
    return [dict(p, chosen=cut(p["chosen"]), rejected=cut(p["rejected"])) for p in pairs]


def run(folder, pairs, keep=None, steps=STEPS, batch=BATCH, **options):
    """Trains with DPOTrainer. Returns the rows of its log. keep: file to which the weights are
    written."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tok = PreTrainedTokenizerFast.from_pretrained(folder)
    scratch = tempfile.mkdtemp()
    args = DPOConfig(output_dir=scratch, max_steps=steps, per_device_train_batch_size=batch,
                     gradient_accumulation_steps=BATCH // batch,
                     lr_scheduler_type="constant",
                     logging_steps=1, save_strategy="no", report_to=[], use_cpu=True, bf16=False,
                     optim="adamw_torch", weight_decay=0.0, max_length=None,
                     gradient_checkpointing=False, disable_dropout=True, **options)
    trainer = InOrder(model=model, args=args, train_dataset=Dataset.from_list(pairs),
                      processing_class=tok)
    trainer.train()
    shutil.rmtree(scratch)
    keys = ("loss", "grad_norm", "learning_rate", "rewards/chosen", "rewards/rejected",
            "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected",
            "logits/chosen", "logits/rejected", "entropy")
    rows = [{k: float(row[k]) for k in keys if k in row}
            for row in trainer.state.log_history if "loss" in row]
    assert len(rows) == steps
    if keep:
        weights = {k: v.clone() for k, v in trainer.model.state_dict().items() if k != "lm_head.weight"}
        save_file(weights, keep, metadata={"format": "pt"})
    return dict(options=options, rows=rows)


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    make_model(folder / "model")
    pairs = make_pairs(STEPS * BATCH)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs))
    adam = dict(learning_rate=1e-3, max_grad_norm=1.0)
    near_sgd = dict(steps=2, learning_rate=0.1, max_grad_norm=0.0)
    trl = dict(steps=[run(folder / "model", pairs, beta=beta, **adam) for beta in (0.1, 0.5)])
    trl["dpo"] = run(folder / "model", pairs, folder / "dpo.safetensors", beta=0.5, adam_epsilon=1.0,
                     **near_sgd)
    # `aot` sorts the pairs of its batch. With one pair per batch it is DPO with label smoothing.
    trl["doubt"] = run(folder / "model", pairs, folder / "doubt.safetensors", batch=1, beta=0.5,
                       adam_epsilon=1.0, loss_type=["aot"], label_smoothing=0.2, **near_sgd)
    trl["ipo"] = run(folder / "model", level(pairs), folder / "ipo.safetensors", beta=0.5,
                     adam_epsilon=1.0 / LEVEL**2, loss_type=["ipo"], **near_sgd)
    (folder / "level.jsonl").write_text("".join(json.dumps(p) + "\n" for p in level(pairs)))
    (folder / "trl.json").write_text(json.dumps(trl, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
