"""Marshmallow fields that name what models wear: LoRAs and textual inversions."""

from typing import Any, Final

from marshmallow import ValidationError, fields

from api.fields import Text, number
from shared.spec import LORA_WEIGHT, MAX_LORAS, MAX_TEXTUAL_INVERSIONS, MAX_TRIGGER_CHARS, Lora

LORAS_SCHEMA: Final = {
    "type": "array",
    "maxItems": MAX_LORAS,
    "items": {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string"},
            "weight": {
                "type": ["number", "null"],
                "minimum": LORA_WEIGHT.minimum,
                "maximum": LORA_WEIGHT.maximum,
                "default": 1.0,
            },
        },
    },
    "default": [],
}
INVERSIONS_SCHEMA: Final = {
    "type": "object",
    "maxProperties": MAX_TEXTUAL_INVERSIONS,
    "additionalProperties": {"type": ["string", "null"], "minLength": 1, "maxLength": MAX_TRIGGER_CHARS},
    "default": {},
}


class Loras(fields.Field[tuple[Lora, ...]]):
    """A list of `{"name": …, "weight": …}`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> tuple[Lora, ...]:  # noqa: ARG002
        if not isinstance(value, list):
            raise ValidationError("must be a list of objects with a name and a weight")
        return tuple(_lora(item) for item in value)


class Inversions(fields.Field[tuple[tuple[str, str], ...]]):
    """An object of names and their triggers; null leaves the trigger to the catalog."""

    def _deserialize(
        self,
        value: Any,
        attr: str | None,
        data: Any,  # noqa: ARG002 - theirs
        **kwargs: Any,  # noqa: ARG002
    ) -> tuple[tuple[str, str], ...]:
        if not isinstance(value, dict):
            raise ValidationError("must be an object of names and triggers")
        return tuple((name, _trigger(attr, name, trigger)) for name, trigger in value.items())


def _lora(item: Any) -> Lora:
    if not isinstance(item, dict) or not {"name"} <= set(item) <= {"name", "weight"}:
        raise ValidationError("must be objects with a name and perhaps a weight")
    name = str(Text().deserialize(item["name"]))
    weight = item.get("weight")
    return Lora(name, 1.0 if weight is None else float(number(weight, whole=False)))


def _trigger(field: str | None, name: str, trigger: Any) -> str:
    if trigger is None:
        return ""
    text = str(Text().deserialize(trigger))
    if not text.strip():
        raise ValidationError(f"the trigger of {name} must not be empty", str(field))
    return text
