"""What OpenSourceAIs' `ai_diffusion` takes, field by field.

The provider's page holds two contracts. The one that its config route advertises is for those who draw a form; a POST
follows the page's table, and where both give a range it takes their union.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.accounts import Account, Client
from shared.dialects.base import Call
from shared.dialects.reading import Reader
from shared.errors import InvalidField, RequestError
from shared.inputs import MAX_URL_CHARS
from shared.job import DEFAULT_WEBHOOK_EVENTS, PASSING_WEBHOOK_EVENTS, Status, Submission
from shared.order import Order
from shared.spec import JobSpec

NAME: Final = "opensourceais"
ENGINE: Final = "diffusion"
#: Either side, in pixels.
SIDES: Final = (320, 384, 448, 512, 640, 768)
DEFAULT_SIDE: Final = 320
MAX_WORD_CHARS: Final = 10_000
MAX_MODEL_CHARS: Final = 200
#: What the config calls the model that is drawn with unless another is named.
DEFAULT_MODEL: Final = "sd-v1-4.ckpt"
RANDOM: Final = "$random"
DEFAULT_OUTPUT: Final = "$output_uid.ext"
IMAGE_FORMATS: Final = ("PNG", "JPEG")
MAX_OUTPUT_CHARS: Final = 64
#: What a client with a notify address is told of; the provider has no stage for progress.
NOTIFIED_EVENTS: Final = (*(event for event in PASSING_WEBHOOK_EVENTS if event != "progress"), *DEFAULT_WEBHOOK_EVENTS)
_OUTPUT: Final = re.compile(rf"[A-Za-z0-9._$-]{{1,{MAX_OUTPUT_CHARS}}}")
_HTTP: Final = re.compile(r"https?://[^/]", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """What a number may be; both ends belong to it."""

    minimum: float
    maximum: float
    default: float | None
    whole: bool = True

    def schema(self) -> dict[str, Any]:
        """Return it as JSON Schema."""
        kind = "integer" if self.whole else "number"
        default = {} if self.default is None else {"default": self.default}
        return {"type": kind, "minimum": self.minimum, "maximum": self.maximum, **default}


NUMBERS: Final[Mapping[str, Span]] = {
    "steps": Span(minimum=1, maximum=200, default=20),
    "guidance": Span(minimum=0.1, maximum=12, default=7.5, whole=False),
    "strength": Span(minimum=0, maximum=1, default=0.75, whole=False),
    "cimg": Span(minimum=1, maximum=4, default=1),
    "saveinterval": Span(minimum=1, maximum=20, default=None),
    "seed": Span(minimum=1, maximum=1_000_000, default=1),
}
#: The most that free accounts may ask for.
FREE_MOST: Final[Mapping[str, int]] = {"steps": 100, "width": 512, "height": 512, "saveinterval": 20}
_SAYS: Final[Mapping[str, str]] = {
    "steps": "Denoising steps.",
    "guidance": "How closely the words are followed.",
    "strength": "1 forgets the init image, 0 keeps it; without one it has no effect.",
    "cimg": "How many images.",
    "saveinterval": "Keep a picture on the way every so many steps; left out: none.",
    "seed": f"Equal seeds give equal images; {RANDOM} draws one.",
}
_SIDE_SCHEMA: Final = {"type": "integer", "enum": list(SIDES), "default": DEFAULT_SIDE}
#: The body as JSON Schema.
SCHEMA: Final[Mapping[str, Any]] = {
    "title": "OpensourceaisSubmit",
    "type": "object",
    "required": ["word"],
    "properties": {
        "word": {"type": "string", "minLength": 1, "maxLength": MAX_WORD_CHARS, "description": "What to draw."},
        "url_upload": {
            "type": "string",
            "format": "uri",
            "maxLength": MAX_URL_CHARS,
            "description": "Where the init image is: PNG or JPEG, over https.",
        },
        "width": {**_SIDE_SCHEMA, "description": "Width in pixels."},
        "height": {**_SIDE_SCHEMA, "description": "Height in pixels."},
        **{name: span.schema() | {"description": _SAYS[name]} for name, span in NUMBERS.items() if name != "seed"},
        "seed": {"anyOf": [NUMBERS["seed"].schema(), {"const": RANDOM}], "description": _SAYS["seed"]},
        "model": {
            "type": "string",
            "maxLength": MAX_MODEL_CHARS,
            "default": DEFAULT_MODEL,
            "description": "A model of the catalog.",
        },
        "output": {
            "type": "string",
            "pattern": f"^{_OUTPUT.pattern}$",
            "default": DEFAULT_OUTPUT,
            "description": "What browsers save the images as.",
        },
    },
}


class UnknownEngine(RequestError):
    """There is no such AI engine."""

    code = "unknown_engine"
    http_status = 404


def check_engine(call: Call) -> None:
    """Raise `UnknownEngine` unless the path names the one that is served."""
    if call.args.get("engine") != ENGINE:
        raise UnknownEngine


def values(call: Call) -> Mapping[str, Any]:
    """Return a body's fields, JSON or form; nothing in it is an empty string, which means omitted as null does."""
    body = call.body.strip()
    # JSON is sent under a form's Content-Type too: curl does so unless told otherwise.
    found = call.form if not body or (call.form and not body.startswith(b"{")) else call.json_object()
    return {name: None if value == "" else value for name, value in found.items()}


def parse(call: Call, account: Account) -> Order:
    """Read a request; `InvalidField` names what cannot be, by its provider's name."""
    check_engine(call)
    reader = Reader(values(call), lenient=True)
    numbers: dict[str, Any] = {name: _number(reader, name) for name in NUMBERS}
    numbers |= {name: _side(reader, name) for name in ("width", "height")}
    if account.plan == "free":
        _check_free(numbers)
    url, model = _url(reader), reader.text("model", most=MAX_MODEL_CHARS, default=None)
    spec = _spec(reader, numbers, url=url, model=model)
    told = {
        "model": model,
        "output": _output(reader),
        "url_upload": url,
        "strength": numbers["strength"] if reader.has("strength") else None,
        "image_formats": " ".join(IMAGE_FORMATS) if url else None,
        "username": account.name,
    }
    return Order(submission=_submission(spec, told, account, ignored=reader.ignored), https_only=True)


def _spec(reader: Reader, numbers: Mapping[str, Any], *, url: str | None, model: str | None) -> JobSpec:
    return JobSpec(
        prompt=reader.required_text("word", most=MAX_WORD_CHARS),
        model=model or "default",
        width=numbers["width"],
        height=numbers["height"],
        num_inference_steps=numbers["steps"],
        guidance_scale=numbers["guidance"],
        seed=numbers["seed"],
        num_images=numbers["cimg"],
        preview_every=numbers["saveinterval"],
        image=url,
        strength=numbers["strength"] if url else None,
    )


def _submission(spec: JobSpec, told: Mapping[str, Any], account: Account, *, ignored: tuple[str, ...]) -> Submission:
    client = account.client or Client("")
    told = {**told, "client_token": client.token, "notify_url": client.notify_url, "upload_url": client.upload_url}
    return Submission(
        spec=spec,
        dialect=NAME,
        webhook_url=client.notify_url or client.upload_url or None,
        # Where pictures are sent, and nothing is told, there is no call to make without pictures.
        webhook_events=NOTIFIED_EVENTS if client.notify_url else (str(Status.SUCCEEDED),),
        options=tuple((name, value) for name, value in told.items() if value not in {None, ""}),
        ignored=ignored,
    )


def _number(reader: Reader, name: str) -> float | None:
    span = NUMBERS[name]
    if name == "seed" and reader.raw(name) == RANDOM:
        return None
    if span.whole:
        return reader.integer(name, minimum=int(span.minimum), maximum=int(span.maximum), default=span.default)
    return reader.number(name, minimum=span.minimum, maximum=span.maximum, default=span.default)


def _side(reader: Reader, name: str) -> int:
    side = int(reader.integer(name, minimum=SIDES[0], maximum=SIDES[-1], default=DEFAULT_SIDE))
    if side not in SIDES:
        raise InvalidField(name, f"must be one of {', '.join(map(str, SIDES))}, not {side}")
    return side


def _check_free(asked: Mapping[str, float | None]) -> None:
    for name, most in FREE_MOST.items():
        if (asked[name] or 0) > most:
            raise InvalidField(name, f"at most {most} with free access")


def _url(reader: Reader) -> str | None:
    url = reader.text("url_upload", most=MAX_URL_CHARS, default=None)
    if url is None or not url.strip():
        return None
    if not _HTTP.match(url.strip()) or any("\ud800" <= character <= "\udfff" for character in url):
        raise InvalidField("url_upload", "must be a URL that starts with https://")
    return url.strip()


def _output(reader: Reader) -> str | None:
    output = reader.text("output", most=MAX_OUTPUT_CHARS, default=None)
    if output is not None and not _OUTPUT.fullmatch(output):
        raise InvalidField("output", "must be 1 to 64 letters, digits and ._$-")
    return output
