"""aithriving's bounds and defaults, which its reader and its JSON Schema share."""

from typing import Final

SIDE_MIN, SIDE_MAX, SIDE_STEP = 320, 1536, 64
MAX_PROMPT_CHARS: Final = 2_000
MAX_SEED: Final = 2**32 - 1
#: The least and the most.
CFG_SCALE: Final = (0, 35)
STEPS: Final = (10, 50)
DEFAULT_CFG_SCALE: Final = 7.0
DEFAULT_STEPS: Final = 30
DEFAULT_IMAGE_STRENGTH: Final = 0.35
#: Taken where a request names no sampler: without CLIP guidance, and with it.
AUTOMATIC_SAMPLERS: Final = ("K_DPMPP_2M", "K_DPMPP_2S_ANCESTRAL")
OUTPUT_FORMATS: Final = ("jpeg", "png", "webp")
