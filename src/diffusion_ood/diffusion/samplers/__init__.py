"""Samplers: from x_t to x_s, s < t. Adding one is a file here and a line in `SAMPLERS`.

A sampler keeps nothing between steps: whatever it wants to remember it returns, and the trajectory
hands it back. So trajectories of any age, at any times, can share one network call.
"""

from diffusion_ood.diffusion.samplers.base import NEVER, BatchDenoiser, Sampler
from diffusion_ood.diffusion.samplers.ddim import DDIM
from diffusion_ood.diffusion.samplers.dpm_solver import DPMSolverPlusPlus
from diffusion_ood.diffusion.samplers.plms import PLMS
from diffusion_ood.diffusion.samplers.pndm import PNDM

SAMPLERS: dict[str, Sampler] = {
    "ddim": DDIM(),
    "dpmpp_2m": DPMSolverPlusPlus(),
    "plms": PLMS(),
    "pndm2": PNDM(order=2),
    "pndm4": PNDM(order=4),
}

__all__ = ["NEVER", "SAMPLERS", "BatchDenoiser", "Sampler"]
