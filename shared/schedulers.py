"""The schedulers a job may ask for: canonical names and what each one takes.

Names are diffusers' class names, and one like them that diffusers lacks, DPMPP2SAncestralScheduler. The classes
themselves are built by the worker; this table is what both sides need to know to check a request.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulerInfo:
    """What a scheduler takes."""

    #: Takes `use_karras_sigmas`.
    karras: bool = False
    #: Takes `algorithm_type`.
    algorithm: bool = False
    #: Starts from an init image, and from nothing else.
    needs_image: bool = False
    #: Most inference steps it runs.
    max_steps: int = 200


#: name -> what it takes; every name that this version runs
SCHEDULERS: dict[str, SchedulerInfo] = {
    "DDPMScheduler": SchedulerInfo(),
    "DDIMScheduler": SchedulerInfo(),
    "PNDMScheduler": SchedulerInfo(),
    "LMSDiscreteScheduler": SchedulerInfo(karras=True),
    "EulerDiscreteScheduler": SchedulerInfo(karras=True),
    "EulerAncestralDiscreteScheduler": SchedulerInfo(),
    "DPMSolverMultistepScheduler": SchedulerInfo(karras=True, algorithm=True),
    "HeunDiscreteScheduler": SchedulerInfo(karras=True),
    "KDPM2DiscreteScheduler": SchedulerInfo(karras=True),
    "DPMSolverSinglestepScheduler": SchedulerInfo(karras=True),
    "KDPM2AncestralDiscreteScheduler": SchedulerInfo(karras=True),
    "UniPCMultistepScheduler": SchedulerInfo(karras=True),
    "DEISMultistepScheduler": SchedulerInfo(karras=True),
    "LCMScheduler": SchedulerInfo(max_steps=50),
    "DPMSolverSDEScheduler": SchedulerInfo(karras=True),
    "DPMPP2SAncestralScheduler": SchedulerInfo(karras=True),
    "IPNDMScheduler": SchedulerInfo(),
    "KarrasVeScheduler": SchedulerInfo(),
    "ScoreSdeVeScheduler": SchedulerInfo(),
    "DDIMInverseScheduler": SchedulerInfo(needs_image=True),
}


ALGORITHM_TYPES: tuple[str, ...] = ("dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++")
