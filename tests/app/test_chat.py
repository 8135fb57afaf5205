#!/usr/bin/env python3
"""test_chat.py: checks training on records with `messages`. The loss of a step is the mean over the
assistant's tokens. replay computes the same loss. A checkpoint stores the chat template of its run,
and the next command uses it. A reward model reads messages with its own template."""
import json
import shutil

import common

TEMPLATE = ("{% for m in messages %}{{ '[' + m.role + '] ' + m.content + '\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}")
OTHER = TEMPLATE.replace("[' + m.role + ']", "(' + m.role + ')")
SYSTEM = "be kind"


def say(role, text):
    return {"role": role, "content": text}


def model_with_template(bench):
    """Returns a copy of the SFT checkpoint with a chat template."""
    folder = bench.folder / "chat-model"
    shutil.copytree(bench.base().resolve(), folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def conversations(bench, n=8):
    """Writes conversations of two turns each."""
    lines = [json.loads(line) for line in (bench.world / "sft.jsonl").read_text().splitlines()]
    text = [(r["prompt"].strip(), r["completion"].strip()) for r in lines[:2 * n]]
    talks = [[say("user", text[2 * i][0]), say("assistant", text[2 * i][1]),
              say("user", text[2 * i + 1][0]), say("assistant", text[2 * i + 1][1])]
             for i in range(n)]
    path = bench.folder / "messages.jsonl"
    path.write_text("".join(json.dumps({"messages": t}) + "\n" for t in talks))
    return path, talks


def train(bench, model, path, out, *more):
    return bench.good("sft", f"model={model}", f"output_dir={out}", f"data.train={path}",
                      "max_steps=1", "global_batch_size=8", "micro_batch_size=2",
                      "learning_rate=1e-3", "log_every=1", *more)


def trained_tokens(bench, model, path, talks):
    """Checks that the loss of a step is the mean over the tokens of the answers, with log-probs from `plumb
    logprob`; with assistant_only=false, over all tokens."""
    for more in ([], ["assistant_only=false"]):
        out = bench.folder / f"sft{len(more)}"
        train(bench, model, path, out, f"data.system={SYSTEM}", "train.replay=1:0", *more)
        rows = bench.good("logprob", f"model={model}", f"input={path}", f"system={SYSTEM}",
                          *more).lines()
        n, total = sum(len(r["logprobs"]) for r in rows), sum(r["sum"] for r in rows)
        loss = common.metrics(out)[0]["loss"]
        bench.check(abs(loss + total / n) < 1e-5 * loss, "loss", loss, "of logprob", -total / n)
        ids = [bench.good("tokenize", f"tokenizer={model}", "input=-", f"system={SYSTEM}",
                          stdin=json.dumps({"messages": t}) + "\n").lines()[0]["ids"]
               for t in talks]
        whole = sum(len(i) for i in ids)
        bench.check(n == whole - len(ids) if more else n < whole / 1.2, n, "of", whole, "tokens")
        r = bench.good("replay", out / "replay-1-0.h5", f"model={model}")
        bits = [line["same_bits"] for line in r.lines() if "same_bits" in line]
        bench.check(len(bits) >= 3 and all(bits), "replay", r)
    return out


def kept(bench, model, out):
    """Checks that the checkpoint stores the chat template of the run and that the next command
    uses it."""
    latest = out / "latest"
    prompts = bench.folder / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": [say("user", "who are you")]}) + "\n")
    bench.check((latest / "chat_template.jinja").read_text() == TEMPLATE, "template of", latest)
    stored = json.loads((latest / "plumb_chat.json").read_text())
    bench.check(stored == {"chat_template": "auto", "system": SYSTEM}, "stored", stored)
    run = json.loads((out / "run.json").read_text())["chat"]
    bench.check(run == {"template": TEMPLATE, "system": SYSTEM}, "run.json", run)
    bench.check(SYSTEM in (latest / "README.md").read_text(), "the card lacks the system text")
    text = f"[system] {SYSTEM}\n[user] who are you\n[assistant] "
    want = bench.good("tokenize", f"tokenizer={model}", "special=false", "input=-",
                      stdin=json.dumps({"text": text}) + "\n").lines()[0]["ids"]
    args = ["generate", f"prompts={prompts}", "temperature=0", "max_new_tokens=2"]
    got = bench.good(*args, f"model={latest}").lines()[0]["prompt_ids"]
    bench.check(got == want, "prompt of the next command", got, want)
    r = bench.good(*args, f"model={latest}", "system=be short")
    bench.check("be short" in r.err and SYSTEM in r.err, "no warning", r)
    other = bench.folder / "other.jinja"
    other.write_text(OTHER)
    r = bench.good(*args, f"model={latest}", f"chat_template={other}")
    bench.check("other.jinja" in r.err and str(latest) in r.err, "no warning", r)
    r = bench.run(*args, f"model={latest}", f"chat_template={other}", "prompt_template=Q {prompt}")
    bench.check(r.code not in (0, None) and "prompt_template" in r.err and "chat_template" in r.err,
                "both templates", r)
    r = bench.good(*args, f"model={latest}", "chat_template=none")
    bench.check(r.lines()[0]["prompt_ids"] != want, "chat_template=none")
    bench.check("trained with its chat template" in r.err, "no warning", r)
    return args, r.lines()[0]["prompt_ids"]


def without(bench, model, args, bare):
    """Checks that chat_template=none is stored with the checkpoint, and that later commands use it."""
    path = bench.folder / "short.jsonl"
    path.write_text((json.dumps({"messages": [say("user", "who are you"), say("assistant", "i am max.")]}) + "\n") * 8)
    first, second = bench.folder / "none", bench.folder / "none-again"
    train(bench, model, path, first, "chat_template=none")
    stored = json.loads((first / "latest" / "plumb_chat.json").read_text())
    bench.check(stored == {"chat_template": "none"}, "stored", stored)
    train(bench, first / "latest", path, second)
    for out in (first, second):
        r = bench.good(*args, f"model={out}/latest")
        bench.check(r.lines()[0]["prompt_ids"] == bare, "prompt of", out, r)
        bench.check("data.chat_template is none, because" in r.err, "does not say so", r)
    r = bench.good(*args, f"model={first}/latest", "chat_template=auto")
    bench.check(r.lines()[0]["prompt_ids"] != bare and "trained without a chat template" in r.err, "chat_template=auto", r)
    r = bench.run(*args, f"model={first}/latest", "system=be short")
    bench.check(r.code not in (0, None) and "data.chat_template is none" in r.err, "a system text without a template", r)


def pairs(bench, model):
    """Checks that a reward model reads messages in the same way in training, with score, and as
    reward.model."""
    lines = [json.loads(line) for line in (bench.world / "pairs.jsonl").read_text().splitlines()[:16]]
    path, out = bench.folder / "pairs-of-messages.jsonl", bench.folder / "chat-reward"
    path.write_text("".join(json.dumps({"prompt": [say("user", r["prompt"].strip())],
                                        "chosen": [say("assistant", r["chosen"].strip())],
                                        "rejected": [say("assistant", r["rejected"].strip())]}) + "\n"
                            for r in lines))
    bench.good("reward", f"model={model}", f"output_dir={out}", f"data.train={path}", "max_steps=2",
               "global_batch_size=8", "micro_batch_size=2", "learning_rate=1e-3", "log_every=1")
    records = [{"prompt": [say("user", r["prompt"].strip())],
                "completion": [say("assistant", r["chosen"].strip())]} for r in lines]
    text = "".join(json.dumps(r) + "\n" for r in records)
    by_model = bench.good("score", f"model={out}/latest", "input=-", stdin=text).lines()
    by_source = bench.good("score", f"reward.model={out}/latest", "input=-", stdin=text).lines()
    messages = "".join(json.dumps({"messages": r["prompt"] + r["completion"]}) + "\n" for r in records)
    whole = bench.good("score", f"model={out}/latest", "input=-", stdin=messages).lines()
    for a, b, c in zip(by_model, by_source, whole):
        bench.check(abs(a["score"] - b["score"]) < 1e-5 and abs(a["score"] - c["score"]) < 1e-5,
                    "scores", a, b, c)
    bench.good("prefer", f"model={model}", f"output_dir={bench.folder}/chat-prefer",
               f"data.train={path}", "max_steps=1", "global_batch_size=8", "micro_batch_size=2")


def too_long(bench, model, path):
    out = bench.folder / "long"
    args = ["sft", f"model={model}", f"output_dir={out}", f"data.train={path}", "max_steps=1",
            "global_batch_size=8", "micro_batch_size=2"]
    limit = "data.max_tokens=40"
    r = bench.run(*args, limit)
    bench.check(r.code not in (0, None) and "overlong" in r.err, "too long", r)
    r = bench.good(*args, limit, "overlong=truncate_right")
    bench.check("lost the last tokens" in r.err, "truncated", r)


def shown(bench, model, path):
    r = bench.good("inspect", path, f"tokenizer={model}", threads=None)
    bench.check("trained" in r.out and "chat template" in r.out and "[user] " in r.out, "inspect", r)


def test(bench):
    model = model_with_template(bench)
    path, talks = conversations(bench)
    out = trained_tokens(bench, model, path, talks)
    args, bare = kept(bench, model, out)
    without(bench, model, args, bare)
    pairs(bench, model)
    too_long(bench, model, path)
    shown(bench, model, path)


if __name__ == "__main__":
    common.main(test)
