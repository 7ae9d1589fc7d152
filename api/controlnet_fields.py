"""The native API's ControlNets: a list of objects, whose pictures may come as files of a form."""

import re
from collections.abc import Mapping
from typing import Any, Final

from marshmallow import ValidationError, fields

from api.fields import Flag, ImageSource, Number, Text
from shared.inputs import Inline, Remote
from shared.spec import CONTROLNET_BOUNDS, MAX_CONTROLNETS, ControlNet

_SAYS: Final = {
    "scale": ("How strongly it works.", 1.0),
    "start": ("From which part of the steps on it works.", 0.0),
    "end": ("Up to which part of the steps it works.", 1.0),
}
CONTROLNETS_SCHEMA: Final = {
    "type": "array",
    "maxItems": MAX_CONTROLNETS,
    "items": {
        "type": "object",
        "required": ["name", "image"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1, "description": "A ControlNet from `/v1/assets`."},
            "image": {
                "type": "string",
                "description": "What it draws after: as `image`. In a form, the file `controlnets.0.image`, and so on.",
            },
            **{
                name: {
                    "type": ["number", "null"],
                    "minimum": CONTROLNET_BOUNDS[name].minimum,
                    "maximum": CONTROLNET_BOUNDS[name].maximum,
                    "default": default,
                    "description": says,
                }
                for name, (says, default) in _SAYS.items()
            },
            "preprocess": {
                "type": ["boolean", "null"],
                "default": True,
                "description": "Make the hint (edges, lines, …) out of the picture; false: it is one already.",
            },
        },
    },
    "default": [],
}
#: How each property is read.
_KINDS: Final[dict[str, fields.Field[Any]]] = {
    "name": Text(),
    "image": ImageSource(),
    "scale": Number(),
    "start": Number(),
    "end": Number(),
    "preprocess": Flag(),
}
_FILE: Final = re.compile(r"controlnets\.(\d)\.image")

#: A ControlNet that is still without its picture, and where that is.
Asked = tuple[dict[str, Any], Inline | Remote]


class ControlNets(fields.Field[tuple[Asked, ...]]):
    """A list of `{"name": …, "image": …, …}`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> tuple[Asked, ...]:  # noqa: ARG002
        if not isinstance(value, list):
            raise ValidationError("must be a list of objects with a name and an image")
        if len(value) > MAX_CONTROLNETS:
            raise ValidationError(f"must be at most {MAX_CONTROLNETS}, not {len(value)}")
        return tuple(_asked(index, item) for index, item in enumerate(value))


def with_files(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request's fields with the files `controlnets.N.image` put where they belong; others stay alone."""
    found, nets = dict(data), data.get("controlnets")
    if not isinstance(nets, list):
        return found
    nets = [dict(net) if isinstance(net, dict) else net for net in nets]
    for name, file in data.items():
        named = _FILE.fullmatch(name)
        if named and isinstance(file, Inline) and int(named[1]) < len(nets) and isinstance(nets[int(named[1])], dict):
            nets[int(named[1])]["image"] = found.pop(name)
    return {**found, "controlnets": nets}


def sources_of(asked: tuple[Asked, ...]) -> dict[str, Inline | Remote]:
    """Return field -> picture of each ControlNet."""
    return {f"controlnets.{index}.image": source for index, (_, source) in enumerate(asked)}


def controlnets_of(asked: tuple[Asked, ...], names: dict[str, str]) -> tuple[ControlNet, ...]:
    """Return the ControlNets with their pictures as `names` calls them, by field; those are taken out."""
    return tuple(
        ControlNet(image=names.pop(f"controlnets.{index}.image"), **net) for index, (net, _) in enumerate(asked)
    )


def _asked(index: int, item: Any) -> Asked:
    if not isinstance(item, dict) or not set(item) <= set(_KINDS):
        raise ValidationError(f"{index}: must be an object of {', '.join(_KINDS)}")
    given = {name: value for name, value in item.items() if value is not None}
    for name in ("name", "image"):
        if name not in given:
            raise ValidationError(f"{index}.{name}: is required")
    read = {name: _read(index, name, value) for name, value in given.items()}
    return read, read.pop("image")


def _read(index: int, name: str, value: Any) -> Any:
    try:
        return _KINDS[name].deserialize(value, name)
    except ValidationError as error:
        raise ValidationError([f"{index}.{name}: {message}" for message in error.messages]) from error
