"""Writes tests/train/optim_golden.h: steps of AdamW and learning rate schedules, from torch and
transformers in float64.

Run with a Python that has torch and transformers:  python optim_fixtures.py >
../train/optim_golden.h"""
import torch
from transformers import (get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup,
                          get_cosine_with_min_lr_schedule_with_warmup,
                          get_linear_schedule_with_warmup)

torch.manual_seed(7)
SHAPES = [(5, 7), (7,), (3, 4)]
STEPS, TOTAL, WARMUP, PEAK, CLIP, DECAY = 12, 12, 3, 0.05, 2.0, 0.1


def array(kind, name, values):
    cells = [float(v).hex() if kind == "double" else f"{float(v):.9g}" for v in values]
    print(f"static const {kind} {name}[{len(cells)}] = {{")
    for i in range(0, len(cells), 4):
        print("    " + ", ".join(cells[i:i + 4]) + ",")
    print("};")


def lrs(scheduler_of, n=24):
    w = torch.nn.Parameter(torch.zeros(1))
    optim = torch.optim.SGD([w], lr=1.0)
    schedule = scheduler_of(optim)
    out = []
    for _ in range(n):
        out.append(schedule.get_last_lr()[0])
        optim.step()
        schedule.step()
    return out


def adamw():
    params = [torch.nn.Parameter(torch.randn(s, dtype=torch.float32).double()) for s in SHAPES]
    grads = [[torch.randn(s, dtype=torch.float32) * (0.02 if t % 3 else 1.0) for s in SHAPES]
             for t in range(STEPS)]
    array("float", "golden_start", [x for p in params for x in p.detach().clone().flatten()])
    array("float", "golden_grad", [x for g in grads for t in g for x in t.flatten()])
    matrices = [p for p in params if p.dim() > 1]
    vectors = [p for p in params if p.dim() == 1]
    optim = torch.optim.AdamW([{"params": matrices, "weight_decay": DECAY},
                               {"params": vectors, "weight_decay": 0.0}],
                              lr=PEAK, betas=(0.9, 0.999), eps=1e-8)
    schedule = get_cosine_schedule_with_warmup(optim, WARMUP, TOTAL)
    norms, rates, weights = [], [], []
    for step in grads:
        for p, g in zip(params, step):
            p.grad = g.double()
        norms.append(torch.nn.utils.clip_grad_norm_(params, CLIP))
        rates.append(schedule.get_last_lr()[0])
        optim.step()
        schedule.step()
        weights += [x for p in params for x in p.detach().clone().flatten()]
    array("double", "golden_norm", norms)
    array("double", "golden_lr", rates)
    # the weights after every step, one step after another
    array("double", "golden_weight", weights)


print("/* optim_golden.h - AdamW and schedules, float64; written by tests/reference/"
      "optim_fixtures.py. */")
print("/* clang-format off */")
print(f"enum {{ GOLDEN_STEPS = {STEPS}, GOLDEN_TOTAL = {TOTAL}, GOLDEN_WARMUP = {WARMUP} }};")
print(f"static const double golden_peak = {PEAK}, golden_clip = {CLIP}, golden_decay = {DECAY};")
adamw()
print("/* Factors of the learning rate at steps 0, 1 ... of schedules with 20 steps, of which 5 "
      "are warm-up\n * (warmup_ratio 0.22). 24 values go beyond the end. golden_cosine_min: "
      "min_lr_ratio 0.1. */")
array("double", "golden_constant", lrs(lambda o: get_constant_schedule_with_warmup(o, 5)))
array("double", "golden_linear", lrs(lambda o: get_linear_schedule_with_warmup(o, 5, 20)))
array("double", "golden_cosine", lrs(lambda o: get_cosine_schedule_with_warmup(o, 5, 20), 20))
array("double", "golden_cosine_min",
      lrs(lambda o: get_cosine_with_min_lr_schedule_with_warmup(o, 5, 20, min_lr_rate=0.1), 20))
print("/* clang-format on */")
