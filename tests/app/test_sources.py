#!/usr/bin/env python3
"""test_sources.py: checks that a checkpoint has the tokenizer that the run used, also after a resume; that
rank 0 prints once that two files contradict each other, or that transformers reads a file otherwise; and that a
new reward model reads its score at the same token as transformers."""
import json
import shutil
import sys

import common


def edit(path, **change):
    """Sets members of a JSON file; the value None removes a member."""
    value = json.loads(path.read_text()) if path.exists() else {}
    value = {k: v for k, v in {**value, **change}.items() if v is not None}
    path.write_text(json.dumps(value))
    return value


def saves_the_tokenizer(bench):
    words, bare = bench.folder / "words", bench.folder / "bare"
    shutil.copytree(bench.world, bare)
    words.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (bare / name).exists():
            shutil.move(bare / name, words / name)
    edit(words / "special_tokens_map.json", additional_special_tokens=["<|judge|>"])
    (words / "chat_template.jinja").write_text("{{ messages }}")
    out = bench.folder / "own"

    def args(folder):
        given = bench.sft_args(folder, steps=3)
        given.remove("checkpoint.every=0")
        return [*(a.replace(f"model={bench.world}", f"model={bare}") for a in given),
                f"tokenizer={words}", "checkpoint.every=1"]

    bench.good(*args(out))
    kept = [p.name for p in words.iterdir()]
    for name in kept:
        bench.same(words / name, out / "latest" / name, "tokenizer= is saved")
    half = common.rewind(out, bench.folder / "half", 2)
    bench.good(*args(half), "resume=auto")
    bench.check((half / "checkpoint-3").exists(), "no checkpoint of step 3")
    for name in kept:
        bench.same(words / name, half / "latest" / name, "tokenizer= is saved after a resume")
    line = json.dumps({"text": "<|judge|>a"}) + "\n"
    own = bench.good("tokenize", f"model={bare}", f"tokenizer={words}", "input=-", stdin=line)
    saved = bench.good("tokenize", f"model={out / 'latest'}", "input=-", stdin=line)
    bench.check(own.lines() == saved.lines(), "the checkpoint encodes otherwise:", own, saved)


def names_both_sources(bench):
    odd = bench.folder / "odd"
    shutil.copytree(bench.base(), odd)
    for name in ("hashes.json", "trainer_state.h5"):
        (odd / name).unlink(missing_ok=True)
    config = json.loads((odd / "config.json").read_text())
    stop = config["eos_token_id"]
    other = (stop + 1) % config["vocab_size"]
    (odd / "generation_config.json").unlink(missing_ok=True)
    edit(odd / "config.json", eos_token_id=other, rope_scaling={"rope_type": "linear", "factor": 2.0},
         rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    prompt = json.dumps({"prompt": "a"}) + "\n"
    for ranks in (1, 2) if bench.mpirun else (1,):
        r = bench.good("generate", f"model={odd}", "prompts=-", "max_new_tokens=2", ranks=ranks,
                       stdin=prompt)
        bench.check(r.err.count("rope_scaling and rope_parameters") == 1, "rope:", r)
        bench.check(r.err.count(f"the end token is {stop} in the tokenizer") == 1 and
                    f"{other} in config.json" in r.err, "end token:", r)
    edit(odd / "config.json", final_logit_softcapping=30.0)
    r = bench.run("generate", f"model={odd}", "prompts=-", "max_new_tokens=2", stdin=prompt)
    bench.check(r.code == 7 and "final_logit_softcapping" in r.err and "config.json" in r.err,
                "a field that changes the arithmetic:", r)


def reads_the_score_alike(bench):
    base = bench.folder / "padded"
    shutil.copytree(bench.base(), base)
    stop = edit(base / "config.json")["eos_token_id"]
    edit(base / "config.json", pad_token_id=stop)
    for name in ("hashes.json", "trainer_state.h5"):
        (base / name).unlink(missing_ok=True)
    judge = bench.folder / "judge"
    bench.good(*bench.reward_args(judge, base, steps=1))
    saved = json.loads((judge / "latest" / "config.json").read_text())
    bench.check("pad_token_id" in saved and saved["pad_token_id"] is None, "pad_token_id of a new "
                "reward model:", saved)
    other = bench.folder / "other"
    shutil.copytree(judge / "latest", other)
    edit(other / "config.json", pad_token_id=stop)
    lines = "".join(json.dumps({"ids": ids}) + "\n" for ids in ([5, 6, 7], [5, 6, 7, stop]))
    at_end = bench.good("score", f"model={judge / 'latest'}", "input=-", stdin=lines)
    before = bench.good("score", f"model={other}", "input=-", stdin=lines)
    scores = [line["score"] for line in before.lines()]
    bench.check(scores[0] == scores[1] == at_end.lines()[0]["score"] != at_end.lines()[1]["score"],
                "scores:", at_end.out, before.out)
    bench.check(f"pad_token_id {stop} is the end token" in before.err and
                "pad_token_id" not in at_end.err, "no word about it:", before, at_end)


def names_the_class_of_qwen2(bench):
    """Checks the warning about a qwen2 whose tokenizer transformers builds as Qwen2Tokenizer, although the files differ."""
    fixtures = common.ROOT / "tests" / "fixtures"
    words = json.loads((fixtures / "tokenizer" / "qwen2.json").read_text())["tokenizer"]
    words["added_tokens"], words["model"]["merges"] = [], []
    words["model"]["vocab"] = {k: v for k, v in words["model"]["vocab"].items() if v < 60}
    own = {**words, "pre_tokenizer": words["pre_tokenizer"]["pretokenizers"][1]}
    for name, tokenizer, said in (("PreTrainedTokenizerFast", words, False), ("PreTrainedTokenizerFast", own, True),
                                  ("LlamaTokenizerFast", own, True), ("Qwen2Tokenizer", own, False), (None, words, False), (None, own, True)):
        folder = bench.folder / "qwen2"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(fixtures / "model" / "qwen2_bias", folder)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        edit(folder / "tokenizer_config.json", tokenizer_class=name)
        r = bench.good("generate", f"model={folder}", "prompts=-", "max_new_tokens=1", stdin='{"prompt": "AB"}\n')
        bench.check(r.err.count("reads the tokenizer of a qwen2 as Qwen2Tokenizer") == said, name, said, r)


def main():
    bench = common.Bench(*sys.argv[1:3])
    bench.make_world(sft=64, pairs=48, prompts=32)
    saves_the_tokenizer(bench)
    names_both_sources(bench)
    reads_the_score_alike(bench)
    names_the_class_of_qwen2(bench)
    bench.close()
    bench.end()


if __name__ == "__main__":
    main()
