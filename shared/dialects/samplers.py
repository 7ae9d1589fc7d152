"""What the providers call their samplers, as fields of JobSpec."""

from typing import Any, Final

#: Stability's and aithriving's ten.
STABILITY: Final[dict[str, dict[str, Any]]] = {
    "DDIM": {"scheduler": "DDIMScheduler"},
    "DDPM": {"scheduler": "DDPMScheduler"},
    "K_DPMPP_2M": {
        "scheduler": "DPMSolverMultistepScheduler",
        "algorithm_type": "dpmsolver++",
        "use_karras_sigmas": False,
    },
    "K_DPMPP_2S_ANCESTRAL": {"scheduler": "DPMPP2SAncestralScheduler"},
    "K_DPM_2": {"scheduler": "KDPM2DiscreteScheduler", "use_karras_sigmas": False},
    "K_DPM_2_ANCESTRAL": {"scheduler": "KDPM2AncestralDiscreteScheduler", "use_karras_sigmas": False},
    "K_EULER": {"scheduler": "EulerDiscreteScheduler", "use_karras_sigmas": False},
    "K_EULER_ANCESTRAL": {"scheduler": "EulerAncestralDiscreteScheduler"},
    "K_HEUN": {"scheduler": "HeunDiscreteScheduler", "use_karras_sigmas": False},
    "K_LMS": {"scheduler": "LMSDiscreteScheduler", "use_karras_sigmas": False},
}

#: OctoAI's fourteen, and seven more that its clients send.
OCTOAI: Final[dict[str, dict[str, Any]]] = {
    "DDIM": {"scheduler": "DDIMScheduler"},
    "DDPM": {"scheduler": "DDPMScheduler"},
    "DPM_PLUS_PLUS_2M_KARRAS": {
        "scheduler": "DPMSolverMultistepScheduler",
        "algorithm_type": "dpmsolver++",
        "use_karras_sigmas": True,
    },
    "DPM_SINGLE": {"scheduler": "DPMSolverSinglestepScheduler", "use_karras_sigmas": False},
    "DPM_SOLVER_MULTISTEP": {
        "scheduler": "DPMSolverMultistepScheduler",
        "algorithm_type": "dpmsolver++",
        "use_karras_sigmas": False,
    },
    "K_EULER": {"scheduler": "EulerDiscreteScheduler", "use_karras_sigmas": False},
    "K_EULER_ANCESTRAL": {"scheduler": "EulerAncestralDiscreteScheduler"},
    "PNDM": {"scheduler": "PNDMScheduler"},
    "UNI_PC": {"scheduler": "UniPCMultistepScheduler", "use_karras_sigmas": False},
    "DPM_2": {"scheduler": "KDPM2DiscreteScheduler", "use_karras_sigmas": False},
    "DPM_2_ANCESTRAL": {"scheduler": "KDPM2AncestralDiscreteScheduler", "use_karras_sigmas": False},
    "DPM_PLUS_PLUS_SDE_KARRAS": {"scheduler": "DPMSolverSDEScheduler", "use_karras_sigmas": True},
    "HEUN": {"scheduler": "HeunDiscreteScheduler", "use_karras_sigmas": False},
    "KLMS": {"scheduler": "LMSDiscreteScheduler", "use_karras_sigmas": False},
    "LMS": {"scheduler": "LMSDiscreteScheduler", "use_karras_sigmas": False},
    "K_HEUN": {"scheduler": "HeunDiscreteScheduler", "use_karras_sigmas": False},
    "DPM_PLUS_PLUS_2M_SDE": {
        "scheduler": "DPMSolverMultistepScheduler",
        "algorithm_type": "sde-dpmsolver++",
        "use_karras_sigmas": False,
    },
    "DPM_PLUS_PLUS_2M_SDE_KARRAS": {
        "scheduler": "DPMSolverMultistepScheduler",
        "algorithm_type": "sde-dpmsolver++",
        "use_karras_sigmas": True,
    },
    "DPM_2_KARRAS": {"scheduler": "KDPM2DiscreteScheduler", "use_karras_sigmas": True},
    "DPM_2_ANCESTRAL_KARRAS": {"scheduler": "KDPM2AncestralDiscreteScheduler", "use_karras_sigmas": True},
    "LCM": {"scheduler": "LCMScheduler"},
}

#: Those that cost twice as much.
OCTOAI_PREMIUM: Final = frozenset(
    {
        "DPM_2",
        "DPM_2_ANCESTRAL",
        "DPM_PLUS_PLUS_SDE_KARRAS",
        "HEUN",
        "KLMS",
        "LMS",
        "K_HEUN",
        "DPM_2_KARRAS",
        "DPM_2_ANCESTRAL_KARRAS",
    }
)
