# SPDX-License-Identifier: Apache-2.0
"""Tensors for the golden tests of `nabla attend` and `nabla mask`: a straightforward PyTorch NABLA in raster order.

Writes cli_in.safetensors (q, k, v, do; fp32), cli_nabla.safetensors (policy nabla-0.6_sta-1-3-1, tiles 1x4x4 on a
2x6x5 grid, so ragged), cli_documents.safetensors (dense, two documents of a frame each), cli_cross.safetensors (q, k, v
of different lengths, with the dense result as o_expected's o) and cli_bf16.safetensors (q, k, v in bf16, and o).
Needs torch and safetensors. Run in this folder.
"""
import math
import torch
from safetensors.torch import save_file

F, H, W = 2, 6, 5
TILE_H, TILE_W = 4, 4
B, HEADS, D = 1, 2, 16
S = F * H * W


def blocks():
    """Raster indices of the tokens of each tile, tiles in raster order; and (frame, row, column) of the tile."""
    index = torch.arange(S).view(F, H, W)
    lists, places = [], []
    for f in range(F):
        for i, h in enumerate(range(0, H, TILE_H)):
            for j, w in enumerate(range(0, W, TILE_W)):
                lists.append(index[f, h : h + TILE_H, w : w + TILE_W].reshape(-1))
                places.append((f, i, j))
    return lists, places


def nabla_blocks(q, k, thr, window):
    """Kept block pairs [B, heads, n, n]: the rule of arXiv 2507.13546, sort and cumulative sum, joined with a window."""
    lists, places = blocks()
    n = len(lists)
    qa = torch.stack([q[:, t].mean(1) for t in lists], 2)  # [B, heads, n, D]
    ka = torch.stack([k[:, t].mean(1) for t in lists], 2)
    a = torch.softmax(qa @ ka.transpose(-1, -2) / math.sqrt(D), -1)
    values, order = a.sort(-1)
    kept = torch.zeros_like(a, dtype=torch.bool).scatter(-1, order, values.cumsum(-1) >= 1 - thr)
    for x in range(n):
        for y in range(n):
            if all(abs(places[x][i] - places[y][i]) <= window[i] // 2 for i in range(3)):
                kept[:, :, x, y] = True
    return kept


def token_mask(kept):
    lists, _ = blocks()
    block_of = torch.empty(S, dtype=torch.long)
    for i, t in enumerate(lists):
        block_of[t] = i
    return kept[:, :, block_of][:, :, :, block_of]


def attention(q, k, v, mask):
    """fp64, [B, S, heads, D]; o and the natural log-sum-exp."""
    q, k, v = (t.double().transpose(1, 2) for t in (q, k, v))
    s = (q @ k.transpose(-1, -2)) / math.sqrt(D)
    if mask is not None:
        s = s.masked_fill(~mask, float("-inf"))
    return (torch.softmax(s, -1) @ v).transpose(1, 2), torch.logsumexp(s, -1)


def lists_of(kept):
    n = kept.shape[-1]
    num = kept.sum(-1).int()
    indices = torch.full(kept.shape, -1, dtype=torch.int32)
    for b in range(B):
        for h in range(HEADS):
            for i in range(n):
                row = kept[b, h, i].nonzero().flatten().int()
                indices[b, h, i, : len(row)] = row
    return num, indices


def solve(q, k, v, do, kept):
    q, k, v = (t.double().requires_grad_() for t in (q, k, v))
    o, lse = attention(q, k, v, token_mask(kept))
    o.backward(do.double())
    num, indices = lists_of(kept)
    out = {"o": o, "lse": lse, "dq": q.grad, "dk": k.grad, "dv": v.grad}
    out = {name: t.detach().float().contiguous() for name, t in out.items()}
    return out | {"kv_num_blocks": num, "kv_indices": indices}


def main():
    torch.manual_seed(3)
    q, k, v, do = (torch.randn(B, S, HEADS, D) for _ in range(4))
    lists, places = blocks()
    for i, t in enumerate(lists):  # blocks with a direction of their own, so that selection has something to find
        direction = torch.randn(B, 1, HEADS, D)
        q[:, t] += direction
        k[:, t] += direction
    save_file({"q": q, "k": k, "v": v, "do": do}, "cli_in.safetensors")
    save_file(solve(q, k, v, do, nabla_blocks(q, k, 0.6, (1, 3, 1))), "cli_nabla.safetensors")
    frames = torch.tensor([p[0] for p in places])
    same = (frames[:, None] == frames[None, :]).expand(B, HEADS, -1, -1).clone()
    save_file(solve(q, k, v, do, same), "cli_documents.safetensors")
    kc, vc = torch.randn(B, 7, HEADS, D), torch.randn(B, 7, HEADS, D)
    o, lse = attention(q, kc, vc, None)
    save_file({"q": q, "k": kc, "v": vc, "o": o.float().contiguous(), "lse": lse.float()}, "cli_cross.safetensors")
    half = [t.bfloat16() for t in (q, k, v)]
    o, lse = attention(*half, None)
    save_file({"q": half[0], "k": half[1], "v": half[2], "o": o.bfloat16().contiguous(), "lse": lse.float()},
              "cli_bf16.safetensors")


main()
