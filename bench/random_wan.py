# SPDX-License-Identifier: Apache-2.0
"""Writes a Wan2.1 model of a released size with random weights, to measure speed and memory where the real ones cannot
be had.

    python3 bench/random_wan.py DIR [1.3B|14B]   (torch, diffusers 0.42.1, transformers 5.24; 1.3B: 15 GB of disk)

DIR gets diffusers' layout: transformer (bf16), UMT5-XXL (bf16), VAE (fp32), the tests' tokenizer, whose few hundred
pieces an encoder of 256,384 rows holds too. Weights are drawn so that activations keep their size, but attention's
scores are flat: nabla-0.1 keeps about a tenth of the blocks. Tensors are written one at a time.
"""
import json
import math
import os
import shutil
import sys

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

SIZES = {"1.3B": dict(num_attention_heads=12, ffn_dim=8960, num_layers=30),
         "14B": dict(num_attention_heads=40, ffn_dim=13824, num_layers=40)}
folder, size = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "1.3B"
pool = np.random.default_rng(1).standard_normal(1 << 24, dtype=np.float32)


def values(name, shape):
    """From a pool of normals, at a place of its own: 1e10 fresh ones would take long and show nothing more."""
    count, fan = math.prod(shape), math.prod(shape[1:])
    if len(shape) == 1 or "gamma" in name:
        return np.full(count, 0.0 if name.endswith("bias") else 1.0, np.float32)
    scale = 0.02 if "embed" in name or "shared" in name or "table" in name else fan ** -0.5
    start = hash((name, count)) % (pool.size - 1)
    return np.resize(np.roll(pool, -start) if count < pool.size else pool, count) * np.float32(scale)


def write(path, tensors, dtype):
    """safetensors, without ever holding more than one tensor."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    width, header, at = {"BF16": 2, "F32": 4}[dtype], {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + width * math.prod(shape)]}
        at += width * math.prod(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors.items():
            v = values(name, shape)
            f.write(torch.from_numpy(v).bfloat16().view(torch.int16).numpy().tobytes() if dtype == "BF16" else v.tobytes())
    print(f"{path}: {at / 1e9:.2f} GB")


def shapes(model):
    return {k: tuple(v.shape) for k, v in model.state_dict().items()}


with torch.device("meta"):
    transformer = WanTransformer3DModel(patch_size=(1, 2, 2), attention_head_dim=128, in_channels=16, out_channels=16,
                                        text_dim=4096, freq_dim=256, cross_attn_norm=True, eps=1e-6,
                                        rope_max_seq_len=1024, **SIZES[size])
    vae = AutoencoderKLWan()
    config = UMT5Config(vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
                        feed_forward_proj="gated-gelu", relative_attention_max_distance=128)
    encoder = UMT5EncoderModel(config)
for name, model in (("transformer", transformer), ("vae", vae)):
    os.makedirs(f"{folder}/{name}", exist_ok=True)
    model.save_config(f"{folder}/{name}")
write(f"{folder}/transformer/diffusion_pytorch_model.safetensors", shapes(transformer), "BF16")
write(f"{folder}/vae/diffusion_pytorch_model.safetensors", shapes(vae), "F32")
write(f"{folder}/text_encoder/model.safetensors",
      {k: v for k, v in shapes(encoder).items() if k != "encoder.embed_tokens.weight"}, "BF16")
with open(f"{folder}/text_encoder/config.json", "w") as f:
    json.dump({"model_type": "umt5", "feed_forward_proj": "gated-gelu", "relative_attention_max_distance": 128}, f)
os.makedirs(f"{folder}/tokenizer", exist_ok=True)
shutil.copy(os.path.join(os.path.dirname(__file__), "../tests/data/umt5/wan/tokenizer/spiece.model"),
            f"{folder}/tokenizer")
with open(f"{folder}/model_index.json", "w") as f:
    json.dump({"_class_name": "WanPipeline"}, f)
