# SPDX-License-Identifier: Apache-2.0
"""Makes dit_*.safetensors: tiny Wan2.1 transformers by diffusers, their inputs, outputs and gradients.

    python3 tests/data/make_dit.py tests/data        (torch 2.11, diffusers 0.42.1, safetensors)

Tensors: model.* the parameters, grad.* their gradients for the loss sum(out * d_out), latent, time, context, d_out,
out, d_context. Block masks are those of the policies, written down from the paper's rule, as dense boolean masks.
"""
import math
import sys

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

from reference import Processor, Sinusoid

def make(path, seed, heads, head_dim, layers, ffn, cross_norm, batch, patch, latent, text, thr, window):
    torch.manual_seed(seed)
    model = WanTransformer3DModel(
        patch_size=patch, num_attention_heads=heads, attention_head_dim=head_dim, in_channels=3, out_channels=4,
        text_dim=20, freq_dim=32, ffn_dim=ffn, num_layers=layers, cross_attn_norm=cross_norm, eps=1e-6,
        rope_max_seq_len=64)
    model.condition_embedder.timesteps_proj = Sinusoid(32)
    for name, p in model.named_parameters():
        wide = 1.0 / math.sqrt(p[0].numel()) if p.dim() > 1 else 0.1
        with torch.no_grad():
            p.normal_(0, 0.3 if "scale_shift" in name else 1.5 * wide)
            if "norm" in name and name.endswith("weight"):
                p.add_(1)
    grid = [n // p for n, p in zip(latent, patch)]
    if thr or window:
        for block in model.blocks:
            block.attn1.set_processor(Processor(grid, thr, window))
    x = torch.randn(batch, 3, *latent)
    time = torch.tensor([731.25, 40.0, 999.0][:batch])
    context = torch.randn(batch, text, 20, requires_grad=True)
    d_out = torch.randn(batch, 4, *latent)
    out = model(x, time, context).sample
    (out * d_out).sum().backward()
    tensors = {"latent": x, "time": time, "context": context, "d_out": d_out, "out": out, "d_context": context.grad}
    for name, p in model.named_parameters():
        tensors["model." + name], tensors["grad." + name] = p, p.grad
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, path)


folder = sys.argv[1]
make(f"{folder}/dit_dense.safetensors", 1, 2, 16, 2, 56, True, 2, (1, 2, 2), (3, 20, 18), 7, None, None)
make(f"{folder}/dit_sta.safetensors", 2, 1, 24, 1, 40, False, 1, (1, 1, 1), (3, 18, 10), 5, None, (3, 1, 3))
make(f"{folder}/dit_nabla.safetensors", 3, 2, 16, 1, 40, True, 2, (1, 2, 1), (2, 36, 17), 3, 0.6, (1, 3, 1))
