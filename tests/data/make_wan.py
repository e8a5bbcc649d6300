# SPDX-License-Identifier: Apache-2.0
"""Makes wan/: the transformer of dit_nabla.safetensors in the layouts that people have.

    python3 tests/data/make_wan.py tests/data        (torch 2.15, diffusers 0.42.1, safetensors; after make_dit.py)

original.safetensors  the original's names, fp32
comfy.safetensors     the same under ComfyUI's prefix, fp16
original.pth          the same as torch.save writes it, fp32: a module's state dict with its _metadata, with parameters,
                      a transposed matrix, two biases that share a storage
sharded/              diffusers' names in bf16, three shards and an index
The original's names are written down here and checked by diffusers' own converter of such files.
"""
import json
import os
import sys

import torch
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import load_file, save_file

from reference import transformer_name

class Module(torch.nn.Module):
    """Parameters under names with dots, so that its state dict is an OrderedDict with _metadata."""

    def __init__(self, tensors):
        super().__init__()
        for name, tensor in tensors.items():
            at, *rest = self, *name.split(".")
            for part in rest[:-1]:
                if part not in at._modules:
                    at.add_module(part, torch.nn.Module())
                at = at._modules[part]
            at.register_parameter(rest[-1], torch.nn.Parameter(tensor))


folder = sys.argv[1]
os.makedirs(f"{folder}/wan/sharded", exist_ok=True)
golden = load_file(f"{folder}/dit_nabla.safetensors")
model = {k.removeprefix("model."): v for k, v in golden.items() if k.startswith("model.")}
original = {transformer_name(k): v for k, v in model.items()}
back = convert_wan_transformer_to_diffusers(dict(original))
assert back.keys() == model.keys() and all(torch.equal(back[k], model[k]) for k in model)

save_file(original, f"{folder}/wan/original.safetensors")
save_file({"model.diffusion_model." + k: v.half() for k, v in original.items()}, f"{folder}/wan/comfy.safetensors")

strange = dict(original)
strange["blocks.0.ffn.0.weight"] = strange["blocks.0.ffn.0.weight"].t().contiguous().t()
joined = torch.cat([strange["blocks.0.self_attn.q.bias"], strange["blocks.0.self_attn.k.bias"]])
strange["blocks.0.self_attn.q.bias"], strange["blocks.0.self_attn.k.bias"] = joined.chunk(2)
state = Module(strange).state_dict(keep_vars=True)
assert hasattr(state, "_metadata") and state.keys() == original.keys()
torch.save(state, f"{folder}/wan/original.pth")

names = sorted(model)
shards = [names[i::3] for i in range(3)]
place = {}
for i, shard in enumerate(shards):
    file = f"diffusion_pytorch_model-{i + 1:05d}-of-00003.safetensors"
    save_file({k: model[k].bfloat16().contiguous() for k in shard}, f"{folder}/wan/sharded/{file}")
    place.update({k: file for k in shard})
index = {"metadata": {"total_size": sum(2 * v.numel() for v in model.values())}, "weight_map": dict(sorted(place.items()))}
with open(f"{folder}/wan/sharded/diffusion_pytorch_model.safetensors.index.json", "w") as f:
    f.write(json.dumps(index, indent=2) + "\n")
