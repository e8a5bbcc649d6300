# SPDX-License-Identifier: Apache-2.0
"""sampler.safetensors: where diffusers' schedulers end on a made-up velocity field, handed our lists of sigmas.

"SOLVER/STEPS/SHIFT" [steps + 1 sigmas, steps model times, n values of the final latent]; "start" [n]. The field is
v_j = sin(3 x_j + 2 sigma + 0.4 j) - 0.5 (1 - sigma) x_{j+1}, cyclic in j, in fp64, rounded to fp32 (test_sampler.c).
"""
import pathlib

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from safetensors.torch import save_file

FLOW = dict(prediction_type="flow_prediction", use_flow_sigmas=True)


def field(x, sigma):
    x, sigma = x.double(), float(sigma)
    v = torch.sin(3 * x + 2 * sigma + 0.4 * torch.arange(len(x))) - 0.5 * (1 - sigma) * x.roll(-1)
    return v.float()


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
