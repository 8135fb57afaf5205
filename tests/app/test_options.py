#!/usr/bin/env python3
"""test_options.py: checks options. Option names of other programs get a hint. An option that a command or a
method does not read is refused or gives a warning. config.effective.yaml has the values that were used.
Every command runs with only its required options."""
import json
import re
import shutil

import common

FUNCTIONS = "reward.functions=[{name: length, target: 5}]"
# name in TRL, transformers, OpenRLHF or verl: plumb's name, which the message of sft must contain
HINTS = {
    "lr": "train.learning_rate", "per_device_train_batch_size": "train.micro_batch_size",
    "gradient_accumulation_steps": "train.global_batch_size", "num_train_epochs": "train.epochs",
    "max_length": "data.max_tokens", "max_seq_length": "data.max_tokens",
    "max_prompt_length": "data.max_prompt_tokens", "max_completion_length": "generate.max_new_tokens",
    "num_generations": "generate.group_size", "model_name_or_path": "'model'",
    "dataset_name": "data.train", "save_steps": "checkpoint.every", "eval_steps": "train.eval_every",
    "save_strategy": "checkpoint.interval", "eval_strategy": "train.eval_every",
    "logging_steps": "train.log_every", "kl_coef": "method.beta", "warmup_steps": "train.warmup_ratio",
    "bf16": "'dtype'", "gradient_checkpointing": "train.recompute", "report_to": "report.to",
    "n_samples_per_prompt": "generate.group_size", "actor_learning_rate": "train.learning_rate",
    "lr_scheduler_type": "train.lr_schedule", "save_total_limit": "checkpoint.keep_last",
    "save_only_model": "checkpoint.optimizer", "resume_from_checkpoint": "'resume'",
    "actor_rollout_ref.rollout.response_length": "generate.max_new_tokens",
    "truncation_mode": "keep_end is truncate_left", "loss_type": "TRL's takes means",
    "label_smoothing_factor": "labels of tokens are not smoothed", "center_rewards_coefficient": "no further terms",
    "trainable_token_indices": "lora.rslora",
    "trainer.total_epochs": "train.epochs", "adam_epsilon": "train.epsilon",
    "--max-length": "data.max_tokens", "--learning_rate": "no dashes here: write learning_rate=1",
    "learning_rat": "train.learning_rate", "epoch": "train.epochs", "traim.epochs": "train.epochs",
}


def hints(bench):
    """Checks the hints for names on the command line, and for names in a file at the top level
    and in a section."""
    for name, word in HINTS.items():
        r = bench.run("sft", f"model={bench.world}", f"{name}=1", threads=None)
        bench.check(r.code not in (0, None) and word in r.err, name, "without", word, r)
        if name.startswith("-") or "." in name:
            continue
        path = bench.folder / "hint.yaml"
        for text in (f"{name}: 1\n", f"train:\n  {name}: 1\n"):
            path.write_text(text)
            r = bench.run("sft", path, threads=None)
            bench.check(r.code not in (0, None) and word.strip("'").rsplit(".", maxsplit=1)[-1] in r.err and "hint.yaml:" in r.err,
                        repr(text), "without", word, r)
    for args in (["--learning_rate", "1"], ["--lr"], ["model=x", "--lr", "1"]):
        r = bench.run("sft", *args, threads=None)
        bench.check(r.code not in (0, None) and ("dashes" in r.err or "train.learning_rate" in r.err), args, r)
    r = bench.run("align", "dataset_name=x", threads=None)
    bench.check("'data.prompts'" in r.err and "data.train" not in r.err, "align dataset_name", r)


def effective(out):
    """Returns the text of config.effective.yaml."""
    return (out / "config.effective.yaml").read_text()


def of_method(bench):
    """Checks method parameters that the chosen method does not read, and parameters that the
    method itself sets."""
    base = bench.base()
    for method, option, more in (("dpo", "method.tau=0.3", []), ("raft", "method.beta=0.2", []),
                                 ("ipo", "method.label_smoothing=0.1", []), ("psle", "method.beta=0.2", []),
                                 ("psle", "method.mean_k=1", []), ("vcb", "method.principles=x", []),
                                 ("psle_curriculum", "method.alpha=0.5", []),
                                 ("dpo", "method.reference_weight=0.5", [])):
        out = bench.folder / "refused"
        r = bench.run(*bench.align_args(out, base, option, FUNCTIONS, *more, method=method))
        name = option.split("=", maxsplit=1)[0]
        bench.check(r.code not in (0, None) and name in r.err and f"method {method}" in r.err and not out.exists(),
                    method, option, r)
    r = bench.run(*bench.prefer_args(bench.folder / "refused", base, "rho=-0.4", "method.name=dpo"))
    bench.check(r.code not in (0, None) and "method.rho" in r.err, "prefer rho", r)
    for method, option in (("psle_curriculum", "threshold=decay"), ("spa", "reward_norm=zscore")):
        r = bench.run(*bench.align_args(bench.folder / "refused", base, option, FUNCTIONS, method=method))
        bench.check(r.code not in (0, None) and option.split("=", maxsplit=1)[0] in r.err and "decides" in r.err,
                    method, option, r)

    # If a file has an option that is not used, the command prints a warning with its place, and
    # runs. config.effective.yaml leaves the option out.
    path, out = bench.folder / "left_over.yaml", bench.folder / "left_over"
    path.write_text("method: {name: psle_curriculum, beta: 0.2, tau: 0.7}\n"
                    "train: {max_steps: 3}\n")
    args = [a for a in bench.align_args(out, base, FUNCTIONS, "checkpoint.every=0", "health.max_clipped=1",
                                        iterations=1, method="psle_curriculum") if "method.name" not in a]
    r = bench.good("align", path, *args[1:])
    for words in (("left_over.yaml:1:", "method.tau", "psle_curriculum"), ("align does not use train.max_steps",)):
        lines = [line for line in r.err.splitlines() if "warning" in line and all(w in line for w in words)]
        bench.check(len(lines) == 1, "warning of", words, r)
        bench.check(all(w in (out / "train.log").read_text() for w in words), "train.log lacks", words)
    text = effective(out)
    bench.check("threshold: quantile" in text and "tau:" not in text and "rho:" not in text, "effective:", text)
    again = bench.folder / "again"
    r = bench.good("align", out / "config.effective.yaml", f"output_dir={again}")
    bench.check("warning" not in r.err, "config.effective.yaml makes warnings:", r)
    bench.same(out / "latest" / "model.safetensors", again / "latest" / "model.safetensors", "effective again")


def needless(bench):
    """Checks options that another option makes useless, and options of other commands in a file."""
    base, prompts = bench.base(), bench.folder / "two.jsonl"
    prompts.write_text("".join((bench.world / "prompts.jsonl").read_text().splitlines(True)[:2]))
    r = bench.good("generate", f"model={base}", f"prompts={prompts}", "temperature=0", "top_p=0.5", "max_new_tokens=2")
    bench.check("generate.top_p is not used" in r.err, "top_p at temperature 0", r)
    out = bench.folder / "needless"
    r = bench.good(*bench.sft_args(out, "train.init=checkpoint", f"model={base}", "min_lr_ratio=0.1", steps=1))
    bench.check("train.min_lr_ratio is not used" in r.err, "min_lr_ratio at a constant rate", r)
    for args in (bench.reward_args(out, base, "train.init=random"), bench.align_args(out, base, "train.log_every=1"),
                 ["logprob", f"model={base}", "train.micro_batch_size=2"]):
        r = bench.run(*args)
        bench.check(r.code not in (0, None) and "is not used by" in r.err, args, r)


def limits(bench):
    """Checks that data.max_tokens limits prompt and answer together, also for sampled answers."""
    base, out = bench.base(), bench.folder / "limits"
    more = ["ignore_eos=true", "data.limit=8", FUNCTIONS, "temperature=1"]
    bench.good(*bench.align_args(out, base, *more, method="dpo", iterations=1, prompts=8))
    most = max(len(a["prompt"]) for a in common.rollout_answers(out, 1)) + 5
    short = bench.folder / "limits-short"
    bench.good(*bench.align_args(short, base, *more, f"data.max_tokens={most}", method="dpo", iterations=1, prompts=8))
    answers = common.rollout_answers(short, 1)
    prompts = {a["record"]: len(a["prompt"]) for a in answers}
    for a in answers:
        bench.check(len(a["ids"]) == min(16, most - len(a["prompt"])), "align:", len(a["prompt"]), "and", len(a["ids"]), "of", most)
    lines = bench.good("generate", f"model={base}", f"prompts={bench.world}/prompts.jsonl", "data.limit=8", "max_new_tokens=16",
                       "ignore_eos=true", f"data.max_tokens={most}").lines()
    bench.check([len(line["completion_ids"]) for line in lines] == [min(16, most - prompts[i]) for i in range(8)], "generate beyond data.max_tokens:",
                [len(line["completion_ids"]) for line in lines])


def required_only(bench):
    """Checks that every command runs with only its required options."""
    base, f = bench.base(), bench.folder / "alone"
    shutil.rmtree(f, ignore_errors=True)
    f.mkdir()
    for name in ("sft", "pairs", "prompts"):
        lines = (bench.world / f"{name}.jsonl").read_text().splitlines(True)[:4]
        (f / f"{name}.jsonl").write_text("".join(lines))
    principles = f"method.principles={bench.world}/principles/kind_and_helpful.txt"
    train = {"sft": [f"train={f}/sft.jsonl"], "reward": [f"train={f}/pairs.jsonl"], "prefer": [f"train={f}/pairs.jsonl"],
             "align": [f"prompts={f}/prompts.jsonl", principles, FUNCTIONS]}
    for command, args in train.items():
        r = bench.good(command, f"model={base}", f"output_dir={f}/{command}", *args, threads=None)
        # Removes one warning: this model may answer all four prompts with equal rewards, which no option
        # causes.
        warned = [x for x in r.err.splitlines() if "warning" in x and not re.search(r"iteration \d|iterations the answers", x)]
        bench.check((f / command / "latest").exists() and not warned, command, "leaves no checkpoint, or warns", warned, r)
    bench.check("name: \"dpo\"" in effective(f / "prefer") or "name: dpo" in effective(f / "prefer"), "prefer is not dpo")
    bench.check("group_size: 4" in effective(f / "align"), "align's group")
    r = bench.good("prefer", f"model={base}", f"output_dir={f}/null", *train["prefer"], "method.name=null", "interval=null", threads=None)
    bench.check("dpo" in effective(f / "null") and "max_share: 0.03" in effective(f / "null"), "null is not the default", r)
    bench.good("prefer", f"model={base}", f"output_dir={f}/blank", *train["prefer"], "method.name= null", threads=None)
    bench.check("dpo" in effective(f / "blank"), "null after a blank is not the command's default", effective(f / "blank"))
    text = json.dumps({"prompt": "hi", "completion": " you"}) + "\n"
    (f / "lines.jsonl").write_text(text)
    (f / "run.yaml").write_text(f"output_dir: {f}/run\nstages:\n  - {{name: one, command: prefer, model: '{base}', "
                                f"data: {{train: '{f}/pairs.jsonl'}}}}\n")
    bench.good(*bench.sft_args(f / "replay", "train.init=checkpoint", f"model={base}", "train.replay=1:0", steps=1))
    (replay,) = (f / "replay").glob("replay-*.h5")
    for args in (["generate", f"model={base}", f"prompts={f}/prompts.jsonl"],
                 ["logprob", f"model={base}"], ["score", f"model={f}/reward/latest"], ["score", FUNCTIONS, f"tokenizer={base}"],
                 ["gradient", f"model={base}", f"output={f}/g.safetensors"], ["tokenize", f"model={base}"],
                 ["eval", f"eval.models=a={base}", f"data.eval={f}/prompts.jsonl", FUNCTIONS],
                 ["inspect", f"input={base}"], ["doctor"], ["replay", str(replay)], ["run", str(f / "run.yaml")],
                 *(["plan", c, f"model={base}"] for c in train)):
        r = bench.run(*args, threads=None, stdin=json.dumps({"text": "hi"}) if args[0] == "tokenize" else text)
        # without the warning about equal scores, for the same reason
        warned = [x for x in r.err.splitlines() if "warning" in x and "scores are" not in x]
        bench.check(r.code == 0 and not warned, args[:2], "alone:", r)
    said = bench.good("help", "prefer", threads=None).out
    bench.check(re.search(r"\n  name +text +dpo", said), "help prefer does not say dpo:", said)


def misunderstood(bench):
    """Checks the messages about settings with another effect than the user probably expects."""
    r = bench.run("score", "input=-", "reward.functions=[{name: regex, pattern: dog}]", stdin='{"prompt": "x", "response": "dog"}\n')
    bench.check(r.code not in (0, None) and 'field "completion"' in r.err, "a record without a completion is scored:", r)
    run = bench.folder / "short"
    r = bench.good(*bench.sft_args(run, steps=1000))
    bench.check("train.max_steps: 1000" in r.err and "train.epochs" in r.err, "max_steps beyond the epochs:", r)
    page = (run / "report.html").read_bytes()
    r = bench.run("eval", f"eval.models=a={bench.base()}", f"data.eval={bench.world}/eval.jsonl", "data.limit=2", FUNCTIONS, f"output_dir={run}")
    bench.check(r.code not in (0, None) and "training run" in r.err and (run / "report.html").read_bytes() == page,
                "eval writes into the folder of a run:", r)


def automatic(bench):
    """Checks checkpoint.interval=auto, which computes the interval from the duration of the last save and checkpoint.mtbf.
    With a tiny mtbf, the run saves as often as possible after its first save."""
    run, none = bench.folder / "auto", bench.folder / "none"
    r = bench.good(*bench.sft_args(run, "checkpoint.interval=auto", "checkpoint.mtbf=1e-6", "checkpoint.every=4", steps=8))
    bench.check("(checkpoint.interval=auto)" in r.err, "no save by time:", r)
    bench.check("\n  interval: auto\n" in effective(run), "config.effective.yaml", effective(run))
    r = bench.good(*bench.sft_args(none, "checkpoint.interval=auto", "checkpoint.every=4", steps=8))
    bench.check("(checkpoint.interval" not in r.err, "a save by time within a second:", r)
    bench.same(run / "latest/model.safetensors", none / "latest/model.safetensors", "checkpoint.interval=auto")
    r = bench.good(*bench.sft_args(bench.folder / "unused", "checkpoint.mtbf=60", steps=1))
    bench.check("checkpoint.mtbf is not used: checkpoint.interval is not auto" in r.err, "mtbf", r)
    r = bench.run(*bench.sft_args(bench.folder / "no", "checkpoint.interval=often"))
    bench.check(r.code == 12 and "expected auto or a number" in r.err, "interval=often", r)


def test(bench):
    automatic(bench)
    misunderstood(bench)
    hints(bench)
    of_method(bench)
    needless(bench)
    limits(bench)
    required_only(bench)


if __name__ == "__main__":
    common.main(test)
