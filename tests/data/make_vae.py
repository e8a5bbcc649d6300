# SPDX-License-Identifier: Apache-2.0
"""Makes a tiny Wan2.1 VAE by diffusers, in a folder of each layout, with what it decodes and encodes.

    python3 tests/data/make_vae.py tests/data        (torch 2.15, diffusers 0.42.1, safetensors)

vae/vae/: config.json and weights as diffusers keeps them. vae_original/Wan2.1_VAE.pth: another model under the
original's names and without a config. Weights are bf16; the goldens are computed from the rounded ones in fp32.
vae_latent.safetensors: `latent`, and the `frames` that the first decodes it to; vae_nan, vae_flat: latents to refuse.
vae_golden.safetensors: a prefix d. or o. for the model; latent_*, frames_*: as the sampler leaves them, and decoded;
video_*, encoded_*; tiled: with tiles of 32 pixels every 24 (fp16, for size).
"""
import json
import os
import sys

import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from safetensors.torch import save_file

from reference import make_vae, vae_name


def statistics(vae):
    shape = (1, vae.config.z_dim, 1, 1, 1)
    return (torch.tensor(v).view(shape) for v in (vae.config.latents_mean, vae.config.latents_std))


@torch.no_grad()
def decode(vae, latent):
    mean, std = statistics(vae)
    return vae.decode(latent[None] * std + mean).sample[0]


@torch.no_grad()
def encode(vae, video):
    mean, std = statistics(vae)
    return ((vae.encode(video[None]).latent_dist.mode() - mean) / std)[0]


def goldens(out, prefix, vae, latents, videos):
    for name, shape in latents.items():
        latent = torch.randn(vae.config.z_dim, *shape)
        frames = decode(vae, latent)
        print(prefix, name, tuple(frames.shape), "std", float(frames.std()), "cut", float((frames.abs() == 1).float().mean()))
        out[f"{prefix}.latent_{name}"], out[f"{prefix}.frames_{name}"] = latent, frames
    for name, shape in videos.items():
        video = (torch.randn(3, *shape) * 0.5).clamp(-1, 1)
        out[f"{prefix}.video_{name}"], out[f"{prefix}.encoded_{name}"] = video, encode(vae, video)


folder, out = sys.argv[1], {}
os.makedirs(f"{folder}/vae/vae", exist_ok=True)
os.makedirs(f"{folder}/vae_original", exist_ok=True)

vae = make_vae(1, base_dim=4, z_dim=4, dim_mult=[1, 2, 2, 2], num_res_blocks=2,
           latents_mean=[0.3, -0.2, 0.1, -0.4], latents_std=[1.1, 0.9, 1.3, 0.7])
vae.bfloat16().save_pretrained(f"{folder}/vae/vae")
vae.float()
with open(f"{folder}/vae/model_index.json", "w") as f:
    json.dump({"_class_name": "WanPipeline", "vae": ["diffusers", "AutoencoderKLWan"]}, f)
    f.write("\n")
goldens(out, "d", vae, {"still": (1, 5, 3), "clip": (3, 3, 4), "long": (4, 2, 1)}, {"still": (1, 8, 24), "clip": (9, 16, 8)})
latent = torch.randn(4, 2, 6, 7)
vae.enable_tiling(32, 32, 24, 24)
out["d.latent_tiled"], out["d.frames_tiled"] = latent, decode(vae, latent).half()

vae = make_vae(2, base_dim=4, decoder_base_dim=6, z_dim=16, dim_mult=[1, 1, 2, 1], num_res_blocks=1)
state = {k: v.bfloat16().contiguous() for k, v in vae.state_dict().items()}
names = {vae_name(k, 2): k for k in state}
torch.save({new: state[old] for new, old in names.items()}, f"{folder}/vae_original/Wan2.1_VAE.pth")
goldens(out, "o", vae, {"clip": (2, 3, 2)}, {"clip": (5, 16, 8)})

# The table above is the inverse of diffusers' own conversion, which knows two blocks a level only.
full = AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 2, 4, 4]).state_dict()
back = convert_wan_vae_to_diffusers({vae_name(k, 3): v for k, v in full.items()})
assert set(back) == set(full) and all(torch.equal(back[k], full[k]) for k in full)
save_file({k: v.contiguous() for k, v in out.items()}, f"{folder}/vae_golden.safetensors")

save_file({"latent": out["d.latent_long"], "frames": out["d.frames_long"]}, f"{folder}/vae_latent.safetensors")
bad = out["d.latent_still"][:, :, :2, :2].clone()
bad[2, 0, 1, 1] = float("nan")
save_file({"latent": bad}, f"{folder}/vae_nan.safetensors")
save_file({"latent": out["d.latent_still"][:, 0, :2, :2].contiguous()}, f"{folder}/vae_flat.safetensors")
