# SPDX-License-Identifier: Apache-2.0
"""Files as the Python package safetensors writes them.

python.safetensors: one dtype a size, so that its order of tensors is ours too and a rewrite must give the same bytes.
dtypes.safetensors: every dtype, to be read. convert.safetensors: bit patterns beside their fp32 values, as torch
converts them. With an argument: reads a file of ours and prints what it holds (the other direction; run by hand).
"""
import pathlib
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file

here = pathlib.Path(__file__).parent
if len(sys.argv) > 1:
    with safe_open(sys.argv[1], "pt") as f:
        print(f.metadata())
        for name in f.keys():
            tensor = f.get_tensor(name)
            print(repr(name), tensor.dtype, tuple(tensor.shape), tensor.flatten()[:8].tolist())
    sys.exit()

torch.manual_seed(1)
save_file(
    {
        "block.0.weight": torch.randn(3, 5),
        "block.0.bias": torch.randn(5),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "bf16": torch.randn(7).bfloat16(),
        "empty": torch.zeros(0, 4),
        "größe 模型 😀 \"\\": torch.arange(3, dtype=torch.uint8),
        "deep": torch.zeros(1, 1, 1, 1, 1, 1, 1, 2),
    },
    here / "python.safetensors",
    metadata={"format": "pt"},
)
kinds = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool float8_e4m3fn float8_e5m2 uint16 uint32 uint64"
save_file({k: torch.tensor([1, 0, 2]).to(getattr(torch, k)) for k in kinds.split()}, here / "dtypes.safetensors")

edges = torch.arange(0, 65536, 257).to(torch.int32)
half = torch.cat([edges, torch.tensor([0x0001, 0x03FF, 0x0400, 0x7BFF, 0x7C00, 0xFC00, 0x7C01, 0x7E00, 0x8000])])
half = half.to(torch.uint16)
doubles = torch.tensor(
    [0.0, -0.0, 1 / 3, 1e-40, -1e300, 3.4028235677973366e38, float("inf"), 1 + 2**-24, 1 + 3 * 2**-24], dtype=torch.float64
)
save_file(
    {
        "f16": half.view(torch.float16),
        "f16.expected": half.view(torch.float16).float().view(torch.int32),
        "bf16": half.clone().view(torch.bfloat16),
        "bf16.expected": half.view(torch.bfloat16).float().view(torch.int32),
        "f64": doubles,
        "f64.expected": doubles.float().view(torch.int32),
    },
    here / "convert.safetensors",
)
