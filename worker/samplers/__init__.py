"""Schedulers of ours, for the names that diffusers lacks or cannot run in its pipelines.

`SAMPLERS` maps a name of `shared.schedulers` to its class. Each is built like one of diffusers', with `from_config` on
the model's own configuration, and runs unchanged in the text-to-image, image-to-image and inpaint pipelines.
Two more names need a hand: see `ddim_inversion` and `dpm_solver_sde`.
"""

from typing import Any, Final

from worker.samplers.ddim_inversion import DDIMInverseScheduler
from worker.samplers.dpmpp_2s_ancestral import DPMPP2SAncestralScheduler
from worker.samplers.ipndm import IPNDMScheduler
from worker.samplers.karras_ve import KarrasVeScheduler
from worker.samplers.score_sde_ve import ScoreSdeVeScheduler

#: name -> class
SAMPLERS: Final[dict[str, Any]] = {
    "DDIMInverseScheduler": DDIMInverseScheduler,
    "DPMPP2SAncestralScheduler": DPMPP2SAncestralScheduler,
    "IPNDMScheduler": IPNDMScheduler,
    "KarrasVeScheduler": KarrasVeScheduler,
    "ScoreSdeVeScheduler": ScoreSdeVeScheduler,
}

__all__ = ["SAMPLERS"]
