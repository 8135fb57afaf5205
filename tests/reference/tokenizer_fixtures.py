#!/usr/bin/env python3
"""Writes small tokenizers in the styles of Llama-like models, and the results of
huggingface/tokenizers with them.

 tokenizer_fixtures.py OUT                   writes OUT/<style>.json, the fixtures in the repository
 tokenizer_fixtures.py --stress EXE COUNT    compares the results for COUNT random texts per style
 with the output of
                                             EXE DIR special < {"text"} lines > {"ids","decoded"}

Needs the Python package tokenizers; made with 0.23.3. Texts and vocabularies depend only on a fixed
seed."""
import json
import os
import random
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CORPUS = [
    "Once upon a time there was a little girl named Lily. She loved to play in the garden with her dog.",
    "The quick brown fox jumps over the lazy dog, doesn't it? I'll say we've seen it; they're fast!",
    "def main(argc, argv):\n    for i in range(100):\n        print(\"%d\" % (i * 12345))\n    return 0\n",
    "In 1984 there were 2,048 of them; in 2024 about 1,000,000. Prices: $3.50, 99 cents.",
    "Größe, naïve café, señor, coöperate, œuvre, Ångström, Żółć, Çok güzel.",
    "Привет, как дела? Это простой текст для проверки.", "Καλημέρα κόσμε, τι κάνεις;",
    "今天天气很好，我们去公园吧。東京は日本の首都です。", "안녕하세요 세계", "مرحبا بالعالم", "नमस्ते दुनिया",
    "   spaces   and\ttabs\n\n\nand newlines\r\n", "user: hello\nassistant: hi there, how can I help you today?",
]

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
          r"|\s*[\r\n]|\s+(?!\S)|\s")
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
GPT4O = (rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         rf"|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def split_text(text, behavior, invert=False):
    return {"type": "Split", "pattern": {"String": text}, "behavior": behavior, "invert": invert}


def byte_level(prefix=False, regex=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def sequence(key, *parts):
    return {"type": "Sequence", key: list(parts)}


def metaspace(scheme, cut):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}


def replace(old, new):
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


def replace_regex(old, new):
    return {"type": "Replace", "pattern": {"Regex": old}, "content": new}


def added(content, special=True, **flags):
    return dict({"content": content, "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": not special, "special": special}, **flags)


def around(before, after=()):
    single = [{"SpecialToken": {"id": t, "type_id": 0}} for t in before]
    single += [{"Sequence": {"id": "A", "type_id": 0}}]
    single += [{"SpecialToken": {"id": t, "type_id": 0}} for t in after]
    return {"type": "TemplateProcessing", "single": single,
            "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": list(before) + list(after)}


SPM_DECODER = sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                       {"type": "Strip", "content": " ", "start": 1, "stop": 0})
SPM_TOKENS = [added("<unk>"), added("<s>"), added("</s>")]
CHATML = [added(t) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_pad|>", "<|im_end")]
TOOLS = [added(t, False, normalized=False) for t in ("<tool_call>", "</tool_call>", "<think>", "</think>")]
FIM = [added(f"<|fim_{t}|>") for t in ("prefix", "middle", "suffix")]

# name: (how the vocabulary is trained: "bytes" or "chars", parts of tokenizer.json)
STYLES = {
    "gpt2": ("bytes", dict(pre_tokenizer=byte_level(regex=True), decoder=byte_level(),
                           post_processor=byte_level(), added=[added("<|endoftext|>")])),
    "gpt2_prefix": ("bytes", dict(pre_tokenizer=byte_level(True, True), decoder=byte_level(), post_processor=None,
                                  added=[added("<mask>", lstrip=True), added("[W]", False, single_word=True),
                                         added("<pad>", rstrip=True)])),
    # runs of spaces are separate tokens, which are found before the text is pre-tokenized
    "neox": ("bytes", dict(normalizer={"type": "NFC"}, pre_tokenizer=byte_level(regex=True), decoder=byte_level(),
                           post_processor=byte_level(), added=[added("<|endoftext|>"), added("<|padding|>")] +
                           [added(" " * n, False) for n in range(24, 1, -1)])),
    "llama3": ("bytes", dict(
        pre_tokenizer=sequence("pretokenizers", split(LLAMA3), byte_level()), decoder=byte_level(),
        post_processor=sequence("processors", byte_level(), around(["<|begin_of_text|>"])), ignore_merges=True,
        added=[added(t) for t in ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>",
                                  "<|reserved_special_token_1|>", "<|reserved_special_token_10|>")])),
    "qwen2": ("bytes", dict(
        normalizer={"type": "NFC"}, pre_tokenizer=sequence("pretokenizers", split(QWEN2), byte_level()),
        decoder=byte_level(), post_processor=byte_level(), added=CHATML + TOOLS)),
    "smollm": ("bytes", dict(
        pre_tokenizer=sequence("pretokenizers", {"type": "Digits", "individual_digits": True}, byte_level(regex=True)),
        decoder=byte_level(), post_processor=None, added=CHATML)),
    "cl100k": ("bytes", dict(pre_tokenizer=sequence("pretokenizers", split(CL100K, "Removed", True), byte_level()),
                             decoder=byte_level(), post_processor=around([], ["</s>"]), added=[added("</s>")])),
    "gpt4o": ("bytes", dict(pre_tokenizer=sequence("pretokenizers", split(GPT4O), byte_level()),
                            decoder=byte_level(), post_processor=None, added=[added("<|end|>")])),
    "deepseek": ("bytes", dict(
        normalizer=sequence("normalizers"),
        pre_tokenizer=sequence("pretokenizers", *[split(r) for r in DEEPSEEK], byte_level()), decoder=byte_level(),
        post_processor=around(["<｜begin｜>"]), added=[added("<｜begin｜>"), added("<｜User｜>", False, normalized=False)])),
    "falcon": ("bytes", dict(
        pre_tokenizer=sequence("pretokenizers", {"type": "Punctuation", "behavior": "Contiguous"}, byte_level(regex=True),
                               {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]")),
        decoder=byte_level(), post_processor=None, added=[added(">>TITLE<<", False), added("<|end|>")])),
    "llama2": ("chars", dict(
        normalizer=sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")), decoder=SPM_DECODER,
        post_processor=around(["<s>"]), added=SPM_TOKENS, byte_fallback=True, fuse_unk=True, unk_token="<unk>")),
    "llama2_metaspace": ("chars", dict(
        pre_tokenizer=metaspace("first", False), decoder=SPM_DECODER, post_processor=around(["<s>"], ["</s>"]),
        added=SPM_TOKENS + [added("[INST]", False, normalized=False), added("▁▁▁", False)],
        byte_fallback=True, fuse_unk=True, unk_token="<unk>")),
    "gemma": ("chars", dict(
        normalizer=replace(" ", "▁"), pre_tokenizer=split_text(" ", "MergedWithPrevious"),
        decoder=sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}),
        post_processor=around(["<s>"]),
        added=SPM_TOKENS + [added("<start_of_turn>"), added("\n\n", False), added("▁▁", False), added("<h1>", False)],
        byte_fallback=True, fuse_unk=True, unk_token="<unk>")),
    # Gemma 1, as transformers' GemmaConverter writes it: five special tokens before the byte tokens, and runs of line breaks
    # and of spaces as tokens
    "gemma1": ("chars", dict(
        normalizer=replace(" ", "▁"), pre_tokenizer=split_text(" ", "MergedWithPrevious"),
        decoder=sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}),
        post_processor=around(["<bos>"]),
        added=[added(t) for t in ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")] +
        [added(t, False, normalized=False) for t in ("<2mass>", "[@BOS@]", "<unused0>", "<unused1>")] +
        [added("<start_of_turn>"), added("<end_of_turn>")] +
        [added(c * n, False, normalized=False) for c in "\n▁" for n in range(2, 6)] +
        [added(t, False, normalized=False) for t in ("<table>", "</table>", "<code>", "</code>")],
        first=5, byte_fallback=True, fuse_unk=True, unk_token="<unk>")),
    # OLMo 3 and OLMo 2: the regular expression of cl100k. The tokens that mask personal data are
    # not special tokens.
    "olmo3": ("bytes", dict(
        pre_tokenizer=sequence("pretokenizers", split(LLAMA3, "Removed", True), byte_level()), decoder=byte_level(),
        post_processor=None, added=[added("<|extra_id_0|>", False, normalized=False), added("<|endoftext|>")] + FIM +
        [added(f"|||{t}|||", False, normalized=False) for t in ("PHONE_NUMBER", "EMAIL_ADDRESS", "IP_ADDRESS")] +
        [added("<|im_start|>"), added("<|im_end|>"), added("<functions>", False, normalized=False),
         added("<|extra_id_1|>", False, normalized=False), added("<|endofprompt|>"), added("<|pad|>")])),
    # StableLM 2 (Arcade100k): each digit is a piece of its own. The first StableLM has GPT-NeoX's
    # tokenizer.
    "stablelm": ("bytes", dict(
        normalizer={"type": "NFC"}, pre_tokenizer=sequence("pretokenizers", split(QWEN2, "Removed", True), byte_level()),
        decoder=byte_level(), post_processor=None,
        added=[added("<|endoftext|>")] + FIM + [added("<|fim_pad|>"), added("<gh_stars>"), added("<filename>"), added("<issue_start>"),
               added("<reponame>"), added("<|endofprompt|>"), added("<|im_start|>"), added("<|im_end|>"), added("<|reg0|>"), added("<|extra0|>")])),
    "starcoder2": ("bytes", dict(
        pre_tokenizer=sequence("pretokenizers", {"type": "Digits", "individual_digits": True}, byte_level(regex=True)),
        decoder=byte_level(), post_processor=None,
        added=[added(t) for t in ("<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<repo_name>",
                                  "<file_sep>", "<issue_start>", "<issue_comment>", "<jupyter_start>", "<jupyter_code>", "<pr>", "<NAME>",
                                  "<EMAIL>", "<KEY>", "<PASSWORD>")])),
    "metaspace_split": ("chars", dict(
        normalizer={"type": "NFKC"}, pre_tokenizer=metaspace("always", True), decoder=metaspace("always", True),
        post_processor=around(["<s>"]), added=SPM_TOKENS + [added("x ", False), added("Lily", False, single_word=True)],
        fuse_unk=True, unk_token="<unk>")),
    "unk": ("chars", dict(
        normalizer=sequence("normalizers", {"type": "Strip", "strip_left": True, "strip_right": True},
                            {"type": "NFKD"}, {"type": "Lowercase"}, replace_regex(r"\s{2,}|\p{Mn}", " ")),
        pre_tokenizer={"type": "Whitespace"}, decoder=None, post_processor=None,
        added=SPM_TOKENS + [added("Once", False), added("[Sep]", True, lstrip=True, rstrip=True, normalized=True)],
        unk_token="<unk>")),
    "pieces": ("chars", dict(
        normalizer={"type": "NFD"},
        pre_tokenizer=sequence("pretokenizers", split(r"[aeiou]|\bth\w*|^.", "MergedWithPrevious"),
                               split_text("l", "MergedWithNext"), split(r"\d+|\W+", "Contiguous"),
                               {"type": "Punctuation"}, {"type": "WhitespaceSplit"},
                               metaspace("never", True)),
        decoder=sequence("decoders", replace_regex("[xyz]+", "-"), {"type": "Strip", "content": "t", "start": 2, "stop": 0}),
        post_processor=None, added=[added("stop", False, rstrip=True, lstrip=True)])),
}

ALPHABET = [
    "abcdefghij klmnop qrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", " \t\n\r\x0b\x0c", " " * 8, "\n" * 4,
    ".,;:!?'\"()[]{}<>|/\\@#$%^&*-_=+`~", "éèàùçñüößœÅŁżİıſ", "абвгдежзийклмн ", "αβγδεζηΣς", "你好世界天气東京日本のはカタカナ",
    "안녕하세요", "مرحبا", "नमस्ते", "שלום", "ไทย", "👍🏽😀👨‍👩‍👧🇩🇪❤️", "\u0301\u0308\u0323\u0327\u20d7\u0300\u0345",
    "\u1100\u1161\u11a8", "\u00a0\u3000\u180e\u2003\u200b\u200d\ufeff\u2028\u0085\u00ad", "\x00\x01\x1b\x7f\u009f",
    "½²①Ⅷ٣৩万㎏ﬁﬀ", "\ufffd\ufffe\ue000\U0010ffff\u0378", "▁Ġ▁", "𝒳𝔸𠀀𐍈", "İŉǰΐẞ", "'s't're've'm'll'd'S'T'RE'LL",
]


def random_text(rng, tokens):
    words = " ".join(CORPUS).split(" ")
    out = []
    for _ in range(rng.randint(0, 14)):
        kind = rng.random()
        if kind < 0.45:
            out.append(rng.choice(words))
        elif kind < 0.55 and tokens:
            out.append(rng.choice(tokens))
        elif kind < 0.9:
            chars = rng.choice(ALPHABET)
            out.append("".join(rng.choice(chars) for _ in range(rng.randint(1, 6))))
        else:
            c = chr(rng.choice([rng.randrange(0x20, 0x3000), rng.randrange(0x20, 0xd800), rng.randrange(0x10000, 0x1f900)]))
            out.append(c * rng.randint(1, 3))
        out.append(rng.choice([" ", " ", " ", "", "", "\n", "  "]))
    return "".join(out)


def train(kind, size=380):
    t = Tokenizer(models.BPE())
    if kind == "bytes":
        t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        texts = CORPUS
    else:
        t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
        alphabet = []
        texts = [c for c in CORPUS if not any("\u4e00" <= x <= "\u9fff" for x in c)]
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=sorted(alphabet), show_progress=False))
    model = json.loads(t.to_str())["model"]
    return model["vocab"], model["merges"]


def build(name):
    """Returns the text of the tokenizer.json of a style."""
    kind, parts = STYLES[name]
    parts = dict(parts)
    vocab, merges = train(kind)
    tokens = parts.pop("added")
    # in SentencePiece's order: unknown, BOS, EOS, the bytes, then the other tokens
    if kind == "chars":
        first = [t["content"] for t in tokens[:parts.pop("first", 3)]] if parts.get("unk_token") else []
        if parts.get("byte_fallback"):
            first += ["<0x%02X>" % b for b in range(256)]
        rest = [t for t, _ in sorted(vocab.items(), key=lambda x: x[1])]
        vocab = {t: i for i, t in enumerate(first + rest)}
    if name == "llama3":  # no merge makes these tokens, so only ignore_merges finds them
        vocab["Ġgardener"] = len(vocab)
    # the older format of merges: a string instead of a list
    if name in ("gpt2", "gpt2_prefix", "smollm", "unk"):
        merges = [" ".join(m) for m in merges]
    for i, t in enumerate(tokens):
        t["id"] = vocab.get(t["content"], -1)
    free = len(vocab)
    for t in tokens:
        if t["id"] < 0:
            t["id"], free = free, free + 1
    post = parts.pop("post_processor", None)
    for p in (post or {}).get("processors", [post]):
        if p and p["type"] == "TemplateProcessing":
            ids = {t["content"]: t["id"] for t in tokens}
            p["special_tokens"] = {s: {"id": s, "ids": [ids[s]], "tokens": [s]} for s in p["special_tokens"]}
    model = {"type": "BPE", "dropout": None, "unk_token": parts.pop("unk_token", None),
             "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": parts.pop("fuse_unk", False),
             "byte_fallback": parts.pop("byte_fallback", False), "ignore_merges": parts.pop("ignore_merges", False),
             "vocab": vocab, "merges": merges}
    whole = {"version": "1.0", "truncation": None, "padding": None,
             "added_tokens": [dict([("id", t.pop("id"))] + list(t.items())) for t in tokens],
             "normalizer": parts.pop("normalizer", None), "pre_tokenizer": parts.pop("pre_tokenizer", None),
             "post_processor": post, "decoder": parts.pop("decoder"), "model": model}
    assert not parts, parts
    return json.dumps(whole, ensure_ascii=True, separators=(",", ":"))


def texts_of(name, count, seed):
    rng = random.Random("%s %d" % (name, seed))
    tokens = [t["content"] for t in STYLES[name][1]["added"]]
    return [random_text(rng, tokens) for _ in range(count)]


def write_fixtures(out):
    os.makedirs(out, exist_ok=True)
    for name in STYLES:
        text = build(name)
        t = Tokenizer.from_str(text)
        rng = random.Random(name)
        cases = []
        for s in ["", " ", CORPUS[0][:60], "  a  b  "] + texts_of(name, 16, 1):
            ids = t.encode(s).ids
            cases.append({"text": s, "ids": t.encode(s, add_special_tokens=False).ids, "special": ids,
                          "decoded": t.decode(ids, skip_special_tokens=False),
                          "skipped": t.decode(ids, skip_special_tokens=True)})
        for _ in range(6):  # random ids, which may be parts of characters
            ids = [rng.randrange(t.get_vocab_size() + 2) for _ in range(rng.randint(1, 12))]
            cases.append({"ids": ids, "decoded": t.decode(ids, skip_special_tokens=False),
                          "skipped": t.decode(ids, skip_special_tokens=True)})
        with open(os.path.join(out, name + ".json"), "w") as f:
            f.write('{"made_by":"tests/reference/tokenizer_fixtures.py, tokenizers 0.23.3",\n"tokenizer":%s,\n"cases":[\n' % text)
            f.write(",\n".join(json.dumps(c, ensure_ascii=True, separators=(",", ":")) for c in cases))
            f.write("\n]}\n")


def stress(exe, count, seed, names):
    bad = 0
    for name in names or STYLES:
        text = build(name)
        t = Tokenizer.from_str(text)
        with tempfile.TemporaryDirectory() as d:
            with open(os.path.join(d, "tokenizer.json"), "w") as f:
                f.write(text)
            texts = texts_of(name, count, seed)
            lines = "".join(json.dumps({"text": s}) + "\n" for s in texts)
            got = {}
            for special in ("true", "false"):
                r = subprocess.run([exe, d, special], input=lines.encode(), stdout=subprocess.PIPE, check=True)
                got[special] = [json.loads(x) for x in r.stdout.decode().split("\n")[:-1]]
            wrong = 0
            for i, s in enumerate(texts):
                for special in ("true", "false"):
                    ids = t.encode(s, add_special_tokens=special == "true").ids
                    decoded = t.decode(ids, skip_special_tokens=special == "true")
                    g = got[special][i]
                    if g["ids"] != ids or g["decoded"] != decoded:
                        wrong += 1
                        if wrong <= 3:
                            print(name, special, ascii(s), "\n  want", ids, ascii(decoded), "\n  got ", g["ids"], ascii(g["decoded"]))
            print("%-18s %d texts, %d differences" % (name, count, wrong), flush=True)
            bad += wrong
    return bad


if __name__ == "__main__":
    if sys.argv[1] == "--stress":
        sys.exit(1 if stress(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 2, sys.argv[5:]) else 0)
    write_fixtures(sys.argv[1])
