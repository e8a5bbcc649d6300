# SPDX-License-Identifier: Apache-2.0
"""sampler.safetensors: where diffusers' schedulers end on a made-up velocity field, handed our lists of sigmas.

"SOLVER/STEPS/SHIFT" [steps + 1 sigmas, steps model times, n values of the final latent]; "start" [n]. The field is
v_j = sin(3 x_j + 2 sigma + 0.4 j) - 0.5 (1 - sigma) x_{j+1}, cyclic in j, in fp64, rounded to fp32 (test_sampler.c).
"""
import pathlib

import torch
from safetensors.torch import save_file

from reference import dpmpp, euler, unipc

def field(x, sigma):
    x, sigma = x.double(), float(sigma)
    v = torch.sin(3 * x + 2 * sigma + 0.4 * torch.arange(len(x))) - 0.5 * (1 - sigma) * x.roll(-1)
    return v.float()


start = torch.randn(16, generator=torch.Generator().manual_seed(3))
out = {"start": start}
for name, make in (("unipc", unipc), ("dpm++", dpmpp), ("euler", euler)):
    for steps in (1, 2, 3, 5, 12, 50):
        for shift in (1.0, 3.0, 8.5):
            scheduler, x = make(steps, shift), start
            scheduler.set_begin_index(0)
            for t, sigma in zip(scheduler.timesteps, scheduler.sigmas):
                v = field(x, sigma)
                x = scheduler.step(v[None], t, x[None], return_dict=False)[0][0]  # UniPC wants a batch
            out[f"{name}/{steps}/{shift}"] = torch.cat([scheduler.sigmas, scheduler.timesteps.float(), x])
save_file(out, pathlib.Path(__file__).with_name("sampler.safetensors"))
