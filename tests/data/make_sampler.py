# SPDX-License-Identifier: Apache-2.0
"""sampler.safetensors: what diffusers' Euler scheduler makes of our sigmas (its own default list shifts twice).

"STEPS/SHIFT/sigmas" [steps + 1], ".../times" [steps], ".../velocity" [steps, n], ".../x" [steps + 1, n].
"""
import pathlib

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import save_file

torch.manual_seed(3)
n, out = 8, {}
for steps, shift in ((1, 1.0), (4, 3.0), (20, 5.0), (30, 8.5)):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 0, steps + 1)[:-1].tolist())
    velocity, x = torch.randn(steps, n), [torch.randn(n)]
    for t, v in zip(scheduler.timesteps, velocity):
        x.append(scheduler.step(v, t, x[-1], return_dict=False)[0])
    key = f"{steps}/{shift}/"
    out |= {key + "sigmas": scheduler.sigmas, key + "times": scheduler.timesteps.clone()}
    out |= {key + "velocity": velocity, key + "x": torch.stack(x)}
save_file(out, pathlib.Path(__file__).with_name("sampler.safetensors"))
