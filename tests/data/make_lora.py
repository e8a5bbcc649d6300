# SPDX-License-Identifier: Apache-2.0
"""Makes wan/lora_*.safetensors: changes of the transformer of dit_nabla.safetensors under the names people have, and
wan/lora_merged.safetensors: its changed tensors after all three, at strengths 0.5, -1.25 and 2, computed in fp64.

    python3 tests/data/make_lora.py tests/data        (torch 2.15, safetensors; after make_dit.py)
"""
import sys

import torch
from safetensors.torch import load_file, save_file

folder = sys.argv[1]
torch.manual_seed(4)
golden = load_file(f"{folder}/dit_nabla.safetensors")
model = {k.removeprefix("model."): v.double() for k, v in golden.items() if k.startswith("model.")}
before = {k: v.clone() for k, v in model.items()}


def halves(name, rank):
    """up [out, rank] and down [rank, in], of a convolution with the sizes of its kernel."""
    weight = model[name + ".weight"]
    down = torch.randn(rank, *weight.shape[1:])
    return torch.randn(weight.shape[0], rank, *[1] * (weight.dim() - 2)), down


def add(name, up, down, factor):
    weight = model[name + ".weight"]
    weight += factor * (up.double().flatten(1) @ down.double().flatten(1)).view_as(weight)


# diffusers and PEFT: no alpha
tensors = {}
for name in ["blocks.0.attn1.to_q", "blocks.0.attn2.to_out.0", "condition_embedder.time_proj"]:
    up, down = halves(name, 3)
    tensors[f"transformer.{name}.lora_B.weight"], tensors[f"transformer.{name}.lora_A.weight"] = up, down
    add(name, up, down, 0.5)
save_file(tensors, f"{folder}/wan/lora_diffusers.safetensors")

# ComfyUI: the original's names, alpha, diff and diff_b, in fp16
tensors = {}
for theirs, name in [("blocks.0.self_attn.q", "blocks.0.attn1.to_q"), ("blocks.0.ffn.2", "blocks.0.ffn.net.2")]:
    up, down = (x.half() for x in halves(name, 4))
    bias = torch.randn_like(model[name + ".bias"].float()).half()
    tensors[f"diffusion_model.{theirs}.lora_up.weight"], tensors[f"diffusion_model.{theirs}.lora_down.weight"] = up, down
    tensors[f"diffusion_model.{theirs}.alpha"] = torch.tensor(2.0).half()
    tensors[f"diffusion_model.{theirs}.diff_b"] = bias
    add(name, up, down, -1.25 * 2 / 4)
    model[name + ".bias"] += -1.25 * bias.double()
diff = torch.randn(32).half()
tensors["diffusion_model.blocks.0.norm3.diff"] = diff
model["blocks.0.norm2.weight"] += -1.25 * diff.double()
save_file(tensors, f"{folder}/wan/lora_comfy.safetensors")

# kohya: flat names, a convolution
tensors = {}
for theirs, name in [("blocks_0_cross_attn_k", "blocks.0.attn2.to_k"), ("patch_embedding", "patch_embedding")]:
    up, down = halves(name, 2)
    tensors[f"lora_unet_{theirs}.lora_up.weight"], tensors[f"lora_unet_{theirs}.lora_down.weight"] = up, down
    tensors[f"lora_unet_{theirs}.alpha"] = torch.tensor(1.0)
    add(name, up, down, 2 * 1 / 2)
save_file(tensors, f"{folder}/wan/lora_kohya.safetensors")

changed = {k: v.float() for k, v in model.items() if not torch.equal(v, before[k])}
save_file(changed, f"{folder}/wan/lora_merged.safetensors")
