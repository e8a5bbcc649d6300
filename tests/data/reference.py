# SPDX-License-Identifier: Apache-2.0
"""What several make_*.py share: the rule of NABLA as dense masks, our schedules in diffusers' solvers, tiny VAEs, and the
names of the original code."""
import html
import math
import re

import ftfy
import numpy as np
import torch
from diffusers import AutoencoderKLWan, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

# ---------------------------------------------------------------- the rule

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


# ---------------------------------------------------------------- schedules

FLOW = dict(prediction_type="flow_prediction", use_flow_sigmas=True)


def shifted(first, steps, shift):
    sigma = np.linspace(first, 0, steps + 1)[:-1]
    return shift * sigma / (1 + (shift - 1) * sigma)


def unipc(steps, shift):
    scheduler = UniPCMultistepScheduler(flow_shift=shift, **FLOW)
    scheduler.set_timesteps(sigmas=np.linspace(0.999, 0, steps + 1)[:-1])
    return scheduler


def dpmpp(steps, shift):
    """It takes no list: ours is put in after set_timesteps, which makes the rest of its state."""
    scheduler = DPMSolverMultistepScheduler(flow_shift=shift, **FLOW)
    scheduler.set_timesteps(steps)
    sigma = shifted(1, steps, shift)
    scheduler.sigmas = torch.from_numpy(np.append(sigma, 0).astype(np.float32))
    scheduler.timesteps = torch.from_numpy((1000 * sigma).astype(np.int64))
    return scheduler


def euler(steps, shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 0, steps + 1)[:-1].tolist())
    return scheduler


# ---------------------------------------------------------------- the transformer's names

RULES = [
    (r"^condition_embedder\.time_embedder\.linear_1\.", "time_embedding.0."),
    (r"^condition_embedder\.time_embedder\.linear_2\.", "time_embedding.2."),
    (r"^condition_embedder\.text_embedder\.linear_1\.", "text_embedding.0."),
    (r"^condition_embedder\.text_embedder\.linear_2\.", "text_embedding.2."),
    (r"^condition_embedder\.time_proj\.", "time_projection.1."),
    (r"^proj_out\.", "head.head."),
    (r"^scale_shift_table$", "head.modulation"),
    (r"\.scale_shift_table$", ".modulation"),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_out\.0\.", ".o."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.ffn\.net\.0\.proj\.", ".ffn.0."),
    (r"\.ffn\.net\.2\.", ".ffn.2."),
    (r"\.norm2\.", ".norm3."),
]


def transformer_name(name):
    for pattern, text in RULES:
        name = re.sub(pattern, text, name)
    return name


# ---------------------------------------------------------------- the VAE

TAPS = {"norm1.gamma": "residual.0.gamma", "conv1.": "residual.2.", "norm2.gamma": "residual.3.gamma",
        "conv2.": "residual.6.", "conv_shortcut.": "shortcut."}


def vae_name(name, blocks):
    """The original's name of a tensor; blocks: residual blocks a level of the decoder."""
    if name.startswith("quant_conv."):
        return name.replace("quant_conv", "conv1")
    if name.startswith("post_quant_conv."):
        return name.replace("post_quant_conv", "conv2")
    for new, old in TAPS.items():
        name = name.replace("." + new, "." + old)
    for new, old in ((".conv_in.", ".conv1."), (".norm_out.", ".head.0."), (".conv_out.", ".head.2."),
                     (".mid_block.resnets.0.", ".middle.0."), (".mid_block.attentions.0.", ".middle.1."),
                     (".mid_block.resnets.1.", ".middle.2."), ("encoder.down_blocks.", "encoder.downsamples.")):
        name = name.replace(new, old)
    parts = name.split(".")
    if parts[1] == "up_blocks":
        at = int(parts[2]) * (blocks + 1) + (blocks if parts[3] == "upsamplers" else int(parts[4]))
        name = ".".join(["decoder.upsamples", str(at)] + parts[5:])
    return name


def make_vae(seed, **config):
    torch.manual_seed(seed)
    vae = AutoencoderKLWan(**config)
    with torch.no_grad():
        for name, p in vae.named_parameters():
            if name.endswith("gamma"):
                p.normal_(1, 0.2)
            elif name.endswith("bias"):
                p.normal_(0, 0.1)
            else:
                p.normal_(0, 1.2 / p[0].numel() ** 0.5)
            if name.startswith("decoder.conv_out"):
                p.mul_(0.4)
            p.copy_(p.bfloat16().float())
    return vae.eval()


# ---------------------------------------------------------------- text

LENGTH = 512


def clean(text):
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return re.sub(r"\s+", " ", text).strip()


def tokenize(processor, text):
    """Literal </s> and <pad> are those tokens; the end is appended and survives the cut."""
    ids = []
    for part in re.split(r"(</s>|<pad>)", clean(text)):
        if part in ("</s>", "<pad>"):
            ids.append(processor.piece_to_id(part))
        elif part:
            ids += processor.encode(part)
    return ids[:LENGTH - 1] + [1]


def text_name(name):
    """transformers' name -> that of Wan's own code."""
    if name in ("shared.weight", "encoder.embed_tokens.weight"):
        return "token_embedding.weight"
    if name == "encoder.final_layer_norm.weight":
        return "norm.weight"
    layer, part = re.fullmatch(r"encoder\.block\.(\d+)\.layer\.(.*)", name).groups()
    names = {"0.layer_norm": "norm1", "1.layer_norm": "norm2", "1.DenseReluDense.wi_0": "ffn.gate.0",
             "1.DenseReluDense.wi_1": "ffn.fc1", "1.DenseReluDense.wo": "ffn.fc2",
             "0.SelfAttention.relative_attention_bias": "pos_embedding.embedding"}
    names |= {f"0.SelfAttention.{x}": f"attn.{x}" for x in "qkvo"}
    return f"blocks.{layer}.{names[part.removesuffix('.weight')]}.weight"
