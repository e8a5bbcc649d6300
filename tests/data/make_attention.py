# SPDX-License-Identifier: Apache-2.0
"""Expected masks, outputs and gradients of NABLA attention, from PyTorch: the rule of `nablaT_v2` of
gen-ai-team/Wan2.1-NABLA written out (sort, cumulative sum, scatter back), then masked attention and autograd in fp64.

    python make_attention.py    writes attention.bin beside itself

Inputs are a formula that test_reference.c repeats exactly: every value is a multiple of 2^-16.
File: int32 cases; per case int32 [frames, height, width, heads, dim, thr * 1000, wT, wH, wW, stride], then uint8 mask
[heads, blocks, blocks] in tile order, then fp32 o, dq, dk, dv of every stride-th token in raster order, [n, heads, dim].
"""
import pathlib

import numpy as np
import torch

TILE = 8
CASES = [  # frames, height, width, heads, dim, thr in thousandths (0: none), window in tiles (0: none)
    (3, 24, 16, 2, 16, 500, 0, 0, 0),
    (3, 16, 24, 2, 24, 300, 1, 3, 3),
    (4, 24, 24, 1, 16, 0, 3, 1, 3),
]
STRIDE = 37


def mix(x):
    x = (x * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(15)
    x = (x * np.uint64(2246822519)) & np.uint64(0xFFFFFFFF)
    return x ^ (x >> np.uint64(13))


def unit(salt, index):
    """In [-0.5, 0.5), a multiple of 2^-16."""
    index = np.asarray(index, dtype=np.uint64)
    return (mix(index + np.uint64(salt) * np.uint64(7919)) & np.uint64(0xFFFF)).astype(np.float64) / 65536 - 0.5


def tensor(salt, frames, height, width, heads, dim):
    """[S, heads, dim] in raster order: noise, plus twice a value that each tile shares."""
    t = np.arange(frames * height * width)
    f, h, w = t // (height * width), t // width % height, t % width
    block = (f * (height // TILE) + h // TILE) * (width // TILE) + w // TILE
    c = np.arange(heads * dim)
    own = unit(salt, t[:, None] * heads * dim + c)
    shared = unit(salt + 100, block[:, None] * heads * dim + c)
    return torch.from_numpy((own + 2 * shared).reshape(-1, heads, dim))


def tile_order(frames, height, width):
    raster = torch.arange(frames * height * width).view(frames, height // TILE, TILE, width // TILE, TILE)
    return raster.permute(0, 1, 3, 2, 4).reshape(-1)


def nabla_mask(q, k, thr):
    """[heads, S, D] in tile order -> [heads, blocks, blocks]; also how near any row comes to the line."""
    heads, tokens, dim = q.shape
    qa = q.view(heads, tokens // 64, 64, dim).mean(-2)
    ka = k.view(heads, tokens // 64, 64, dim).mean(-2)
    probs = torch.softmax(qa @ ka.transpose(-2, -1) / dim**0.5, dim=-1)
    values, inds = probs.sort(-1)
    cumulative = values.cumsum(-1)
    kept = (cumulative >= 1 - thr).gather(-1, inds.argsort(-1))
    return kept, (cumulative - (1 - thr)).abs().min().item()


def sta_mask(frames, height, width, wt, wh, ww):
    f, h, w = torch.meshgrid(
        torch.arange(frames), torch.arange(height // TILE), torch.arange(width // TILE), indexing="ij"
    )
    f, h, w = (x.flatten() for x in (f, h, w))
    near = lambda x, window: (x[:, None] - x[None, :]).abs() <= window // 2
    return near(f, wt) & near(h, wh) & near(w, ww)


def run(case, out):
    frames, height, width, heads, dim, thr, wt, wh, ww = case
    order = tile_order(frames, height, width)
    q, k, v, do = (tensor(salt, frames, height, width, heads, dim)[order].transpose(0, 1) for salt in (1, 2, 3, 4))
    blocks = order.numel() // 64
    mask = torch.zeros(heads, blocks, blocks, dtype=torch.bool)
    if thr:
        kept, margin = nabla_mask(q, k, thr / 1000)
        assert margin > 1e-5, f"a row lies {margin} from the line: change the case"
        mask |= kept
    if wt:
        mask |= sta_mask(frames, height, width, wt, wh, ww)
    q, k, v = (x.clone().requires_grad_() for x in (q, k, v))
    tokens = mask.repeat_interleave(64, -1).repeat_interleave(64, -2)
    o = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=tokens)
    o.backward(do)
    np.array([*case, STRIDE], dtype="<i4").tofile(out)
    mask.numpy().astype(np.uint8).tofile(out)
    for x in (o.detach(), q.grad, k.grad, v.grad):
        raster = torch.empty_like(x).transpose(0, 1)
        raster[order] = x.transpose(0, 1)
        raster[::STRIDE].contiguous().float().numpy().astype("<f4").tofile(out)
    print(case, f"density {mask.float().mean():.3f}")


def main():
    with open(pathlib.Path(__file__).with_name("attention.bin"), "wb") as out:
        np.array([len(CASES)], dtype="<i4").tofile(out)
        for case in CASES:
            run(case, out)


if __name__ == "__main__":
    main()
