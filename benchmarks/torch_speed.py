#!/usr/bin/env python3
"""Measures the speed of PyTorch in float32 on the model shapes of bench_train and bench_decode,
with one thread.

torch_speed.py train [steps] | decode [batch]

Needs torch and transformers. Run it alternately with bench_train or bench_decode, and compare
the ratios."""
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def model():
    torch.set_num_threads(1)
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=32000, hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12,
        num_key_value_heads=12, max_position_embeddings=1024, tie_word_embeddings=True,
        attn_implementation='sdpa')).float()


def train(steps):
    m = model()
    optimizer = torch.optim.AdamW(m.parameters(), lr=1e-5, foreach=True)
    ids = torch.randint(0, 32000, (8, 256))
    seconds = []
    for _ in range(steps + 1):
        start = time.monotonic()
        m(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        seconds.append(time.monotonic() - start)
    # without the first step, which touches all memory for the first time
    timed = sorted(seconds[1:])
    print(f'torch {torch.__version__} train: {timed[len(timed) // 2]:.3f} s a step ({timed[0]:.3f}-{timed[-1]:.3f})')


@torch.no_grad()
def decode(batch):
    m = model().eval()
    ids = torch.randint(0, 32000, (batch, 16))

    def seconds(tokens):
        start = time.monotonic()
        out = m(input_ids=ids, use_cache=True)
        for _ in range(tokens - 1):
            token = torch.multinomial(torch.softmax(out.logits[:, -1], -1), 1)
            out = m(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
        return time.monotonic() - start

    seconds(8)
    step = sorted((seconds(40) - seconds(8)) / 32 for _ in range(3))
    print(f'torch {torch.__version__} decode, batch {batch}: {1e3 * step[1]:.1f} ms a step '
          f'({1e3 * step[0]:.1f}-{1e3 * step[2]:.1f})')


if sys.argv[1:2] == ['train']:
    train(int(sys.argv[2]) if len(sys.argv) > 2 else 2)
elif sys.argv[1:2] == ['decode']:
    decode(int(sys.argv[2]) if len(sys.argv) > 2 else 8)
else:
    sys.exit(__doc__)
