"""smollm2_fixtures.py MODEL FOLDER - writes FOLDER/smollm2.json and smollm2.safetensors, the fixtures of tests/real:
the results of transformers with SmolLM2-135M-Instruct in float64.

MODEL is a folder that configs/smollm2/convert_smollm2.py has written.
  lines    2,000 texts with their ids, and with the text to which these ids decode if it differs
  logprob  conversations with the log-prob of every token of the answer, whose tokens are given as ids
  greedy   conversations with up to 100 tokens of the model's greedy answer, and the positions at which the best token
           and the second best are closer than 0.02 nats, with this distance
  gradient for each tensor, the norm of the gradient of the mean negative log-likelihood of the answers in `logprob`.
           The safetensors file has 1,024 elements of each gradient, chosen by sample() (all elements if there are
           fewer)
Run with a Python that has torch and transformers."""
import json
import pathlib
import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

SAMPLES, LINES, CLOSE = 1024, 2000, 0.02

CHATS = [
    ([{"role": "user", "content": "What is the capital of France?"}], "The capital of France is Paris."),
    ([{"role": "system", "content": "Answer with one word."}, {"role": "user", "content": "Is ice cold?"}], "Yes."),
    ([{"role": "user", "content": "Write a function that adds two numbers."}],
     "def add(a, b):\n    return a + b\n"),
    ([{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue."},
      {"role": "user", "content": "Another one, in German."}], "Grün 🟢."),
]
ASKED = ["Count from one to ten.", "What is 7 times 8?", "Name three animals that live in the sea.",
         "Say hello in Spanish.", "Why is the sky blue?", "List the days of the week.",
         "Write a short story about a fox.", "Explain what a hash table is.", "How do I bake bread?",
         "Describe Paris to a child.", "Write a Python function that reverses a list.", "What is photosynthesis?",
         "Compare cats and dogs.", "Give me a plan for learning the piano.", "Who was Marie Curie?",
         "Write an e-mail that asks for a day off.", "What are prime numbers?", "Tell me about the moon.",
         "Translate 'good night' to French, German and Italian.", "Explain how a bicycle stays upright."]

LATIN = "the of price Zürich naïve café 12345 3.14 1e-5 don't I'll WE'RE x=y; a_b snake_case CamelCase http://a.b/c?d=e&f".split()
OTHER = "你好世界 こんにちは 안녕하세요 Привет Ελληνικά שלום مرحبا हिन्दी ไทย 😀 👩‍👩‍👧‍👦 🇩🇪 ✌🏽 ① ﬁ ½ … — \u00a0 \u3000 \u200b \ufeff e\u0301".split(" ")
CODE = ["def f(x):\n\treturn x**2\n", "for (int i = 0; i < n; i++) {\n    a[i] += b[i];\n}", "SELECT * FROM t WHERE a >= 3 -- no",
        "<div class=\"a\">\r\n  &amp;</div>", "{\"k\": [1, 2.5, null, \"\\n\"]}", "$ ls -la | grep '^d' && echo ok", "\\frac{a}{b}"]
BLOCKS = [(0x20, 95), (0xa1, 95), (0x391, 25), (0x410, 64), (0x5d0, 27), (0x627, 36), (0x905, 53), (0xe01, 58), (0x3041, 86),
          (0x4e00, 20000), (0xac00, 11172), (0x2190, 112), (0x1f300, 768), (0x1f600, 80), (0x1d400, 84)]
SPECIAL = ["<|im_start|>user\nhi<|im_end|>\n", "<|endoftext|>", "a<|im_end|>b", "<|im_start", "<repo_name>x<file_sep>y", "<|im_end|> <|im_end|>"]


def lines():
    rng = np.random.default_rng(5)
    out = ["", " ", "  ", "\n", "\n\n", "\t", " a", "a ", "  a  b   c", "a\n\n\nb", *CODE, *SPECIAL, *OTHER, *LATIN]

    def part(kind):
        if kind == 4: # characters of one Unicode block
            begin, size = BLOCKS[int(rng.integers(len(BLOCKS)))]
            return "".join(chr(begin + int(k)) for k in rng.integers(0, size, int(rng.integers(1, 6))))
        words = (LATIN, OTHER, CODE, SPECIAL)[kind]
        return words[int(rng.integers(len(words)))]
    found = dict.fromkeys(out)
    while len(found) < LINES:
        kinds = rng.choice(5, int(rng.integers(1, 6)), p=[.4, .25, .1, .1, .15])
        found["".join(part(int(k)) + " " * int(rng.integers(0, 3)) for k in kinds)] = None
    return list(found)


def sample(n):
    """Returns the indices of the elements that are kept of a tensor with n elements. test_smollm2.py computes
    the same indices."""
    return [i * 2654435761 % n for i in range(SAMPLES)] if n > SAMPLES else list(range(n))


def prompt_ids(tokenizer, chat):
    return tokenizer(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True), add_special_tokens=False).input_ids


def answers(tokenizer, model):
    """Returns the part `logprob`. The gradient stays in the parameters of the model."""
    out, total, count = [], 0.0, 0
    for chat, text in CHATS:
        prompt = prompt_ids(tokenizer, chat)
        answer = tokenizer(text, add_special_tokens=False).input_ids + [tokenizer.eos_token_id]
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1:-1]
        logp = torch.log_softmax(logits, -1)[range(len(answer)), answer]
        out.append(dict(prompt_ids=prompt, completion_ids=answer, messages=chat, completion=text, logp=logp.tolist()))
        total, count = total - logp.sum(), count + len(answer)
    loss = total / count
    loss.backward()
    return out, loss.item()


@torch.no_grad()
def greedy(tokenizer, model, most=100):
    out = []
    for text in ASKED:
        fresh, ids, margin, past = prompt_ids(tokenizer, [{"role": "user", "content": text}]), [], [], None
        while len(ids) < most and (not ids or ids[-1] != tokenizer.eos_token_id):
            step = model(torch.tensor([fresh]), past_key_values=past, use_cache=True)
            best = torch.log_softmax(step.logits[0, -1], -1).topk(2)
            margin.append((best.values[0] - best.values[1]).item())
            fresh, past = [best.indices[0].item()], step.past_key_values
            ids += fresh
        close = {str(i): round(x, 6) for i, x in enumerate(margin) if x < CLOSE}
        out.append(dict(content=text, ids=ids, close=close))
    return out


def main(folder, to):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    # transformers drops the gradient of the pad token's embedding. Here the pad token is also the end token of every message,
    # so the pad index is removed.
    model.model.embed_tokens.padding_idx = None
    to = pathlib.Path(to)
    to.mkdir(parents=True, exist_ok=True)
    asked = greedy(tokenizer, model)
    logprob, loss = answers(tokenizer, model)
    norms, samples = {}, {}
    for name, p in model.named_parameters():
        norms[name] = p.grad.norm().item()
        samples[name] = p.grad.flatten()[sample(p.numel())].to(torch.float32).numpy()
    texts = []
    for t in lines():
        ids = tokenizer(t, add_special_tokens=False).input_ids
        decoded = tokenizer.decode(ids)
        texts.append(dict(text=t, ids=ids, **({} if decoded == t else dict(decoded=decoded))))
    rows = lambda key, values: f'"{key}": [\n' + ",\n".join(json.dumps(v, separators=(",", ":")) for v in values) + "\n]"
    (to / "smollm2.json").write_text("{" + ",\n".join((rows("lines", texts), rows("logprob", logprob), rows("greedy", asked),
                                                      f'"loss": {loss!r}', f'"norms": {json.dumps(norms)}')) + "}\n")
    header, at = {}, 0
    for name, x in samples.items():
        header[name] = dict(dtype="F32", shape=[len(x)], data_offsets=[at, at + x.nbytes])
        at += x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (to / "smollm2.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"".join(x.tobytes() for x in samples.values()))


if __name__ == "__main__":
    main(*sys.argv[1:])
