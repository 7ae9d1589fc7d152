"""What jobs cost, in millicredits: 1 credit is 1,000 of them. Whole numbers only.

The rules are the providers' own. A price is reserved when a job is submitted and settled when it ends; whatever gave no
picture is refunded.
"""

from typing import Final

from shared.spec import JobSpec

#: 512 x 512, the size and the steps that prices are quoted for.
BASE_PIXELS: Final = 262_144
BASE_STEPS: Final = 30
#: An image of that size and those steps ($0.0015 at 100 credits a dollar).
IMAGE_MILLICREDITS: Final = 150
PREMIUM_FACTOR: Final = 2


def image_price(spec: JobSpec, *, premium: bool = False) -> int:
    """Return the price of a job by OctoAI's rule: per image, in proportion to its pixels and steps."""
    amount = IMAGE_MILLICREDITS * spec.width * spec.height * spec.num_inference_steps
    one = -(-amount // (BASE_PIXELS * BASE_STEPS))
    return one * spec.num_images * (PREMIUM_FACTOR if premium else 1)


def success_price(spec: JobSpec) -> int:
    """Return the price of a job by aithriving's rule: 0.4 to 2 credits a success, by size and steps, in tenths."""
    tenths = -(-4 * spec.width * spec.height * spec.num_inference_steps // (BASE_PIXELS * BASE_STEPS))
    return min(2000, max(400, 100 * tenths))
