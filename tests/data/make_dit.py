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
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from safetensors.torch import save_file

TILE = (1, 8, 8)


def tiles_of(grid):
    """For every token in raster order the number of its tile, and every tile's (frame, row, column)."""
    counts = [-(-n // t) for n, t in zip(grid, TILE)]
    ids, places = [], [(f, h, w) for f in range(counts[0]) for h in range(counts[1]) for w in range(counts[2])]
    for f in range(grid[0]):
        for h in range(grid[1]):
            for w in range(grid[2]):
                ids.append((f // TILE[0] * counts[1] + h // TILE[1]) * counts[2] + w // TILE[2])
    return torch.tensor(ids), torch.tensor(places)


def sta(places, window):
    distance = (places[:, None] - places[None]).abs()
    return (distance <= torch.tensor(window) // 2).all(-1)


def nabla(q, k, ids, blocks, thr):
    """q, k: [B, S, H, D] -> [B, H, blocks, blocks], True where kept."""
    pool = torch.nn.functional.one_hot(ids, blocks).float()
    pool = pool / pool.sum(0)
    qa, ka = (torch.einsum("sn,bshd->bhnd", pool, x) for x in (q, k))
    p = torch.softmax(qa @ ka.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
    values, index = p.sort(-1)
    kept = values.cumsum(-1) >= 1 - thr
    return torch.zeros_like(kept).scatter(-1, index, kept)


class Processor(WanAttnProcessor):
    """diffusers' own, with a mask for self-attention."""

    def __init__(self, grid, thr, window):
        self.ids, self.places = tiles_of(grid)
        self.thr, self.window = thr, window

    def mask(self, attn, x, rotary):
        blocks = len(self.places)
        keep = torch.zeros(1, 1, blocks, blocks, dtype=torch.bool)
        if self.window:
            keep = keep | sta(self.places, self.window)
        if self.thr:
            q, k = (norm(linear(x)).unflatten(2, (attn.heads, -1))
                    for linear, norm in ((attn.to_q, attn.norm_q), (attn.to_k, attn.norm_k)))

            def turn(y):
                a, b = y.unflatten(-1, (-1, 2)).unbind(-1)
                cos, sin = rotary[0][..., 0::2], rotary[1][..., 1::2]
                return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)

            keep = keep | nabla(turn(q), turn(k), self.ids, blocks, self.thr)
        return keep[:, :, self.ids][:, :, :, self.ids]

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        if encoder_hidden_states is None:
            with torch.no_grad():
                attention_mask = self.mask(attn, hidden_states, rotary_emb)
            print(f"  density {attention_mask.float().mean():.3f}")
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)


class Sinusoid(torch.nn.Module):
    """In fp64, as the original Wan code; diffusers' fp32 is 3e-5 away."""

    def __init__(self, dim):
        super().__init__()
        self.half = dim // 2

    def forward(self, t):
        angle = t.double()[:, None] * 10000.0 ** (-torch.arange(self.half, dtype=torch.float64) / self.half)
        return torch.cat([angle.cos(), angle.sin()], -1).float()


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
