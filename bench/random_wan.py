# SPDX-License-Identifier: Apache-2.0
"""Writes a Wan2.1 model of a released size with random weights, to measure speed and memory where the real ones cannot
be had. In two steps, as a GPU machine may have torch and nothing else:

    python3 bench/random_wan.py headers PLAN [1.3B|14B]   (torch, diffusers 0.42.1, transformers 5.24; a second, 0.3 MB)
    python3 bench/random_wan.py fill PLAN DIR             (torch; on its GPU where it has one; 1.3B: 15 GB, 14B: 40 GB)

DIR gets diffusers' layout: transformer (bf16), UMT5-XXL (bf16), VAE (fp32), the tests' tokenizer, whose few hundred
pieces an encoder of 256,384 rows holds too. PLAN is the same with a header in place of each file of tensors. Weights are
drawn so that activations keep their size, but attention's scores are flat: nabla-0.1 keeps about a tenth of the blocks.
"""
import json
import math
import os
import shutil
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import torch

SIZES = {"1.3B": dict(num_attention_heads=12, ffn_dim=8960, num_layers=30),
         "14B": dict(num_attention_heads=40, ffn_dim=13824, num_layers=40)}
WIDTH = {"BF16": 2, "F32": 4}
SUFFIX = ".header"
POOL, CHUNK = 1 << 26, 1 << 24  # numbers


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        json.dump(value, f)


def write_header(path, shapes, dtype):
    """Where each tensor of a safetensors file lies."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        end = at + WIDTH[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    write_json(path + SUFFIX, header)


def write_headers(plan, size):
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    def shapes(model):
        return {k: tuple(v.shape) for k, v in model.state_dict().items()}

    with torch.device("meta"):
        transformer = WanTransformer3DModel(patch_size=(1, 2, 2), attention_head_dim=128, in_channels=16,
                                            out_channels=16, text_dim=4096, freq_dim=256, cross_attn_norm=True,
                                            eps=1e-6, rope_max_seq_len=1024, **SIZES[size])
        vae = AutoencoderKLWan()
        encoder = UMT5EncoderModel(UMT5Config(vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24,
                                              num_heads=64, feed_forward_proj="gated-gelu",
                                              relative_attention_max_distance=128))
    text = {k: v for k, v in shapes(encoder).items() if k != "encoder.embed_tokens.weight"}  # shared.weight again
    write_header(f"{plan}/transformer/diffusion_pytorch_model.safetensors", shapes(transformer), "BF16")
    write_header(f"{plan}/vae/diffusion_pytorch_model.safetensors", shapes(vae), "F32")
    write_header(f"{plan}/text_encoder/model.safetensors", text, "BF16")
    transformer.save_config(f"{plan}/transformer")
    vae.save_config(f"{plan}/vae")
    write_json(f"{plan}/text_encoder/config.json",
               {"model_type": "umt5", "feed_forward_proj": "gated-gelu", "relative_attention_max_distance": 128})
    write_json(f"{plan}/model_index.json", {"_class_name": "WanPipeline"})
    os.makedirs(f"{plan}/tokenizer", exist_ok=True)
    shutil.copy(os.path.join(os.path.dirname(__file__), "../tests/data/umt5/wan/tokenizer/spiece.model"),
                f"{plan}/tokenizer")


def scale(name, shape):
    """Of a tensor's normals; None: they are all the same (one a channel, and the norms' gains)."""
    if len(shape) == 1 or "gamma" in name:
        return None
    table = any(word in name for word in ("embed", "shared", "table"))
    return 0.02 if table else math.prod(shape[1:]) ** -0.5


class Pool:
    """Normals, on the GPU where there is one. A chunk's values begin at a place of the chunk's own: fresh ones for 1e10
    would take long on a processor and show nothing more."""

    def __init__(self):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        generator = torch.Generator(device).manual_seed(1)
        self.normals = torch.randn(POOL, device=device, generator=generator)

    def chunk(self, name, shape, first, count, dtype):
        """Numbers first to first + count of a tensor, as bytes."""
        by = scale(name, shape)
        if by is None:
            values = torch.full((count,), 0.0 if name.endswith("bias") else 1.0)
        else:
            start = zlib.crc32(f"{name} {first}".encode()) % (POOL - count)
            values = self.normals[start:start + count] * by
        values = values.bfloat16().view(torch.int16) if dtype == "BF16" else values
        return memoryview(values.cpu().numpy()).cast("B")


def fill_tensors(path, header, pool, threads):
    with open(header, "rb") as f:
        text = f.read()
    text += b" " * (-len(text) % 8)
    tensors = {k: v for k, v in json.loads(text).items() if k != "__metadata__"}
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.pwrite(fd, len(text).to_bytes(8, "little") + text, 0)

    def write(piece):
        name, tensor, first, count = piece
        at = 8 + len(text) + tensor["data_offsets"][0] + first * WIDTH[tensor["dtype"]]
        left = pool.chunk(name, tensor["shape"], first, count, tensor["dtype"])
        while left:
            done = os.pwrite(fd, left, at)
            left, at = left[done:], at + done

    pieces = [(name, t, first, min(CHUNK, math.prod(t["shape"]) - first))
              for name, t in tensors.items() for first in range(0, math.prod(t["shape"]), CHUNK)]
    for _ in threads.map(write, pieces):
        pass
    size = os.fstat(fd).st_size
    os.close(fd)
    print(f"{path}: {size / 1e9:.2f} GB", flush=True)


def fill(plan, folder):
    pool = Pool()
    with ThreadPoolExecutor(min(16, os.cpu_count())) as threads:
        for at, _, files in os.walk(plan):
            to = os.path.join(folder, os.path.relpath(at, plan))
            os.makedirs(to, exist_ok=True)
            for name in files:
                source, target = os.path.join(at, name), os.path.join(to, name)
                if name.endswith(SUFFIX):
                    fill_tensors(target.removesuffix(SUFFIX), source, pool, threads)
                else:
                    shutil.copy(source, target)


def main(mode="", *arguments):
    if mode == "headers" and len(arguments) in (1, 2):
        write_headers(arguments[0], arguments[1] if len(arguments) > 1 else "1.3B")
    elif mode == "fill" and len(arguments) == 2:
        fill(*arguments)
    else:
        sys.exit("usage: random_wan.py headers PLAN [1.3B|14B] | fill PLAN DIR")


if __name__ == "__main__":
    main(*sys.argv[1:])
