"""smollm2_reload.py PLUMB MODEL - checks that transformers can load checkpoints of plumb, and prints how far the log-probs
of the two programs differ.

MODEL is a folder that configs/smollm2/convert_smollm2.py has written. The script trains this model for two steps, with
checkpoint.dtype float32 and bfloat16. transformers must find every tensor of the checkpoint with the configured dtype, and
the tokenizer and chat template of MODEL. In float32, transformers must give the log-probs that `plumb logprob` gives for
the same folder. The weights of the two checkpoints must differ only by the rounding to bfloat16.
Run with a Python that has torch and transformers. This script is not part of the test suite, which does not need torch."""
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import smollm2_trl

LIMIT = 1e-4 # nats


def run(*args, text=None):
    r = subprocess.run([str(a) for a in (*args, "log_level=warn")], input=text, text=True, capture_output=True)
    if r.returncode:
        sys.exit(f"{args}: exit code {r.returncode}\n{r.stderr[-2000:]}")
    return r.stdout


def reload(folder, dtype):
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
    wrong = {k: v for k, v in info.items() if v and k != "error_msgs"}
    assert not wrong and not info.get("error_msgs"), (folder, info)
    kinds = {p.dtype for p in model.parameters()}
    assert kinds == {dtype}, (folder, kinds)
    return model.float().eval()


@torch.no_grad()
def logprobs(model, prompt, answer):
    logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1:-1]
    return torch.log_softmax(logits.double(), -1)[range(len(answer)), answer].tolist()


def main(plumb, start):
    tokenizer = AutoTokenizer.from_pretrained(start)
    sft, _ = smollm2_trl.conversations()
    kept = {}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        data = scratch / "sft.jsonl"
        data.write_text("".join(json.dumps(x) + "\n" for x in sft), encoding="utf-8")
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            out = scratch / name
            run(plumb, "sft", f"model={start}", f"data.train={data}", f"output_dir={out}", "max_steps=2", "global_batch_size=8",
                "micro_batch_size=2", "learning_rate=2e-5", f"checkpoint.dtype={name}", "checkpoint.optimizer=none")
            folder = out / "latest"
            model, again = reload(folder, dtype), AutoTokenizer.from_pretrained(folder)
            assert again.get_vocab() == tokenizer.get_vocab() and again.chat_template == tokenizer.chat_template
            records = []
            for x in sft[:12]:
                prompt = again.apply_chat_template(x["messages"][:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
                records.append((prompt, again(x["messages"][-1]["content"] + again.eos_token, add_special_tokens=False).input_ids))
            text = "".join(json.dumps({"ids": p + a, "prompt_tokens": len(p)}) + "\n" for p, a in records)
            ours = [json.loads(x)["logprobs"] for x in run(plumb, "logprob", f"model={folder}", "input=-", text=text).splitlines()]
            worst = max(abs(x - y) for got, (p, a) in zip(ours, records) for x, y in zip(got, logprobs(model, p, a)))
            print(f"checkpoint.dtype={name}: {sum(len(a) for _, a in records)} log-probs of transformers differ by at most {worst:.1e}")
            assert worst < LIMIT, worst
            kept[name] = {k: v.clone() for k, v in model.state_dict().items()}
    assert all(torch.equal(w.bfloat16().float(), kept["bfloat16"][k]) for k, w in kept["float32"].items())
    print(f"{len(kept['float32'])} tensors: the bfloat16 checkpoint is the float32 one, rounded")


if __name__ == "__main__":
    main(*sys.argv[1:])
