"""Writes tests/io/data/reference.safetensors with the reference library (safetensors, torch).

plumb's writer must write the same bytes for the same tensors (tests/io/test_safetensors.c).
Run: python3 tests/reference/io_safetensors.py"""
import pathlib

import torch
from safetensors.torch import save_file

tensors = {
    "model.b": torch.tensor([[1.5, -2.0, 3.25], [0.0, -0.0, 1e-40]], dtype=torch.float32),
    "model.a": torch.tensor([1.0, 0.1], dtype=torch.float32),
    "half": torch.tensor([65504.0, -6e-8, 0.333], dtype=torch.float16),
    "brain": torch.tensor([3.4e38, 1.0], dtype=torch.bfloat16),
    "wide": torch.tensor([0.1], dtype=torch.float64),
    "ids": torch.tensor([7, -1], dtype=torch.int64),
    "small ids": torch.tensor([5], dtype=torch.int32),
    'quoted " \\ \n \u00e9': torch.tensor([9, 8, 7], dtype=torch.uint8),
    "none": torch.zeros((2, 0), dtype=torch.float32),
    "scalar": torch.tensor(2.5, dtype=torch.float32),
}
out = pathlib.Path(__file__).resolve().parent.parent / "io" / "data" / "reference.safetensors"
save_file(tensors, out, metadata={"format": "pt"})
