"""What ControlNets look at: kinds of hints, and which of them are made here out of a plain picture."""

from typing import Final

from shared.catalog import Asset, Catalog, Kind
from shared.errors import InvalidField
from shared.spec import JobSpec

#: Hints that are made here. Those of all other ControlNets (depth, poses, …) take networks of their own to make.
MADE_HINTS: Final = ("canny", "scribble", "lineart", "tile", "inpaint", "ip2p")


def hint_of(asset: Asset) -> str:
    """Return the kind of hint that a ControlNet looks at: what its entry says, or its name."""
    return asset.hint or asset.name


def check_hints(spec: JobSpec, catalog: Catalog) -> None:
    """Raise `InvalidField` naming the ControlNet whose hint is asked for and cannot be made.

    The spec has the catalog's own names.
    """
    for net in spec.controlnets:
        hint = hint_of(catalog.asset(Kind.CONTROLNET, net.name))
        if net.preprocess and hint not in MADE_HINTS:
            raise InvalidField(
                "controlnets",
                f"{net.name}: a {hint} hint cannot be made here out of a picture; "
                "send one ready made, and ask for no preprocessing",
            )
