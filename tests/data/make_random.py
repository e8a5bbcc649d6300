# SPDX-License-Identifier: Apache-2.0
"""random.safetensors: what torch.randn(n) gives for CPU generators; tensor "SEED/N/BEGIN" is its part from BEGIN on."""
import pathlib

import torch
from safetensors.torch import save_file

out = {}
for seed in (0, 42, 2**32 + 7, 2**63 + 12345):
    for n in (1, 5, 15, 16, 17, 31, 100, 4096, 100003):
        x = torch.randn(n, generator=torch.Generator("cpu").manual_seed(seed))
        for begin in sorted({0, max(0, n - 32)}):
            out[f"{seed}/{n}/{begin}"] = x[begin : begin + 32].clone()
save_file(out, pathlib.Path(__file__).with_name("random.safetensors"))
