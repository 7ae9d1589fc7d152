"""Scheduler objects, made fresh for every call.

Each starts from the model's own configuration plus the options below, never from the scheduler that ran last:
options such as `use_karras_sigmas` would leak through a chain of `from_config`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import diffusers

from shared.errors import InvalidField
from shared.schedulers import SCHEDULERS
from shared.spec import JobSpec
from worker.samplers import SAMPLERS
from worker.samplers.ddim_inversion import DDIMInverseScheduler
from worker.samplers.dpm_solver_sde import dpm_solver_sde

DPM_SOLVER_SDE: Final = "DPMSolverSDEScheduler"
#: class name -> what it needs beyond the model's configuration
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    # With Runge-Kutta warm-up, 1 to 3 steps crash and 6 steps cost 15 evaluations.
    "PNDMScheduler": {"skip_prk_steps": True},
    "DPMSolverMultistepScheduler": {"solver_order": 2},
    # It ends at sigma 0, which needs `lower_order_final`: it would set that by itself, and log so each time.
    "DPMSolverSinglestepScheduler": {"algorithm_type": "dpmsolver++", "solver_order": 2, "lower_order_final": True},
    "UniPCMultistepScheduler": {"solver_type": "bh2"},
    "LCMScheduler": {"original_inference_steps": 50},
}
#: These end at a sigma of zero only in their ++ forms.
_ENDS_AT_SIGMA_MIN: Final = frozenset({"dpmsolver", "sde-dpmsolver"})


def build(spec: JobSpec, *, own_class: str, own_config: Mapping[str, Any], seeds: Sequence[int] = ()) -> Any:
    """Return a new scheduler for the spec; without a wish, of the model's own class.

    `seeds` are those of the images that one call draws: schedulers with noise of their own need them, in order.
    """
    name = spec.scheduler or own_class
    info = SCHEDULERS.get(name)
    if info is not None and info.needs_image and spec.image is None:
        raise InvalidField("scheduler", f"{name} needs an init image")
    options = {**OPTIONS.get(name, {}), **_wishes(spec, name)}
    if name == DPM_SOLVER_SDE:
        return dpm_solver_sde(own_config, seeds=seeds, **options)
    kind = SAMPLERS.get(name) or getattr(diffusers, name)
    return kind.from_config(dict(own_config), **options)


def _wishes(spec: JobSpec, name: str) -> dict[str, Any]:
    """Return the options of the spec that this scheduler takes."""
    info = SCHEDULERS.get(name)
    options: dict[str, Any] = {}
    if info is not None and info.karras and spec.use_karras_sigmas is not None:
        options["use_karras_sigmas"] = spec.use_karras_sigmas
    if info is not None and info.algorithm and spec.algorithm_type is not None:
        options["algorithm_type"] = spec.algorithm_type
        if spec.algorithm_type in _ENDS_AT_SIGMA_MIN:
            options["final_sigmas_type"] = "sigma_min"
    return options


def effective(scheduler: Any) -> dict[str, Any]:
    """Return the scheduler fields of a record: its class, and the options that this class takes, as used."""
    name = type(scheduler).__name__
    info = SCHEDULERS.get(name)
    found: dict[str, Any] = {"scheduler": name}
    if info is not None and info.karras:
        found["use_karras_sigmas"] = bool(scheduler.config.get("use_karras_sigmas"))
    if info is not None and info.algorithm:
        found["algorithm_type"] = scheduler.config["algorithm_type"]
    return found


def evaluations(scheduler: Any, steps: int) -> int:
    """Return how often the network runs for so many steps: progress counts these."""
    scheduler.set_timesteps(steps)
    return len(scheduler.timesteps)


def evaluations_of(spec: JobSpec, scheduler: Any) -> int:
    """Return how often the network runs for one image of the spec; with an init image some steps are passed over."""
    if not spec.steps_used:
        return 0
    passed_over = (spec.num_inference_steps - spec.steps_used) * int(scheduler.order)
    count = evaluations(scheduler, spec.num_inference_steps) - passed_over
    # Each step up to the noise is one evaluation too.
    return 2 * count if isinstance(scheduler, DDIMInverseScheduler) else count
