"""Writes tests/kernels/torch_golden.h: kernels and their gradients from torch, float64.

Run with a Python that has torch:  python kernel_fixtures.py > ../kernels/torch_golden.h
"""
import torch
import torch.nn.functional as F

torch.manual_seed(11)
ROWS, WIDTH, SEEN = 5, 19, 35  # rows and columns of a norm; number of positions in attention
HEADS, KV_HEADS, HEAD, WINDOW = 2, 1, 4, 9
SCALE, CAP, LOGIT_CAP, VOCAB = 0.3, 0.8, 2.5, 23
ROTATED = 2  # number of rotated columns, out of HEAD


def drawn(*shape, size=1.0):
    """Returns random float64 values that float32 can represent, because the kernels get them as
    float32."""
    return (size * torch.randn(*shape)).double().requires_grad_()


def write(name, x):
    cells = [f"{float(v):.9g}" for v in x.detach().flatten()]
    print(f"static const float torch_{name}[{len(cells)}] = {{")
    for i in range(0, len(cells), 8):
        print("    " + ", ".join(cells[i:i + 8]) + ",")
    print("};")


def both(name, out, weight, inputs):
    """Writes the inputs, the output, the weights of its elements in the loss, and the gradients
    of the weighted sum by the inputs."""
    for key, x in inputs.items():
        write(f"{name}_{key}", x)
    write(f"{name}_y", out)
    write(f"{name}_dy", weight)
    grads = torch.autograd.grad((out * weight).sum(), list(inputs.values()))
    for key, g in zip(inputs, grads):
        write(f"{name}_d{key}", g)


def activations():
    kinds = {"silu": F.silu, "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh")}
    for name, f in kinds.items():
        gate, up, dy = drawn(24, size=3), drawn(24), drawn(24)
        both(name, f(gate) * up, dy, {"gate": gate, "up": up})


def norms():
    x, w, dy = drawn(ROWS, WIDTH), drawn(WIDTH), drawn(ROWS, WIDTH)
    rms = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-3)
    both("rmsnorm", rms * (1 + w), dy, {"x": x, "w": w})


def layernorm():
    x, w, bias, dy = drawn(ROWS, WIDTH), drawn(WIDTH), drawn(WIDTH), drawn(ROWS, WIDTH)
    out = F.layer_norm(x, (WIDTH,), w, bias, eps=1e-3)
    both("layernorm", out, dy, {"x": x, "w": w, "bias": bias})


def rope():
    x, angle, dy = drawn(ROWS, HEADS, HEAD), drawn(ROWS, ROTATED // 2), drawn(ROWS, HEADS, HEAD)
    table = torch.cat([angle.cos(), angle.sin()], -1).detach().float().double()
    cos, sin = (t.repeat(1, 2)[:, None] for t in table.chunk(2, -1))
    turned, rest = x[..., :ROTATED], x[..., ROTATED:]
    half = torch.cat([-turned[..., ROTATED // 2:], turned[..., :ROTATED // 2]], -1)
    write("rope_table", table)
    both("rope", torch.cat([turned * cos + half * sin, rest], -1), dy, {"x": x})


def attention():
    """Writes a case of causal attention: one sequence, with a window, a scale and a soft cap."""
    q, k, v = drawn(SEEN, HEADS, HEAD), drawn(SEEN, KV_HEADS, HEAD), drawn(SEEN, KV_HEADS, HEAD)
    dy = drawn(SEEN, HEADS, HEAD)
    group = HEADS // KV_HEADS
    score = torch.einsum("ihd,jhd->hij", q, k.repeat_interleave(group, 1)) * SCALE
    score = CAP * torch.tanh(score / CAP)
    i, j = torch.arange(SEEN)[:, None], torch.arange(SEEN)
    score = score.masked_fill((j > i) | (i - j >= WINDOW), float("-inf"))
    out = torch.einsum("hij,jhd->ihd", score.softmax(-1), v.repeat_interleave(group, 1))
    write("attention_lse", score.logsumexp(-1).T)
    both("attention", out, dy, {"q": q, "k": k, "v": v})


def logprob():
    z, dy = drawn(ROWS, VOCAB, size=3), drawn(ROWS)
    target = torch.randint(VOCAB, (ROWS,))
    capped = LOGIT_CAP * torch.tanh(z / LOGIT_CAP)
    print(f"static const int32_t torch_target[{ROWS}] = {{{', '.join(map(str, target.tolist()))}}};")
    write("capped", capped)
    both("logprob", capped.log_softmax(-1).gather(1, target[:, None])[:, 0], dy, {"z": z})


print("/* torch_golden.h - kernels and their gradients from torch, float64.")
print(" * Written by tests/reference/kernel_fixtures.py. Test of layer 1. */")
print("/* clang-format off */")
print(f"enum {{ T_ROWS = {ROWS}, T_WIDTH = {WIDTH}, T_SEEN = {SEEN}, T_HEADS = {HEADS},")
print(f"       T_KV_HEADS = {KV_HEADS}, T_HEAD = {HEAD}, T_WINDOW = {WINDOW}, T_VOCAB = {VOCAB},")
print(f"       T_ROTATED = {ROTATED} }};")
print(f"#define T_SCALE     {SCALE}f\n#define T_CAP       {CAP}f\n#define T_LOGIT_CAP {LOGIT_CAP}f")
activations()
norms()
rope()
attention()
logprob()
layernorm()
