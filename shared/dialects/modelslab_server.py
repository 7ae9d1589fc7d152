"""ModelsLab's smaller calls: pictures to keep, models, and the server itself.

The provider's customers have a server each and may restart it. Here many accounts share the workers, so such calls
are refused and say why; what concerns the caller's own jobs is done.
"""

from collections.abc import Callable
from typing import Any, Final

from shared.accounts import Account
from shared.api_keys import Scope
from shared.dialects.base import Answer, Call, Desk, Reply
from shared.dialects.modelslab_answers import NOMINAL_IMAGE_S
from shared.dialects.modelslab_fields import MAX_NAME_CHARS, fields_of
from shared.dialects.modelslab_pages import small
from shared.dialects.reading import Reader
from shared.errors import Forbidden, InvalidField, MissingField
from shared.inputs import Inline, parse_source

#: Names of picture formats; what a picture is, its first bytes say.
IMAGE_TYPES: Final = ("png", "jpg", "jpeg", "webp")


def key(call: Call) -> str:
    """Return the key: the body's, else a Bearer header's."""
    found = fields_of(call).get("key")
    if found is None:
        return call.bearer()
    return found.strip() if isinstance(found, str) and found.isascii() else ""


def upload_image(call: Call, desk: Desk) -> Reply:
    """Keep a picture for a day and return a link to it."""
    account, reader = _open(call, desk)
    text = reader.raw("base64_image")
    if text is None:
        raise MissingField("base64_image", "is required")
    if isinstance(kind := reader.raw("image_type"), str):
        reader = Reader({"image_type": kind.lower().removeprefix("image/").lstrip(".")}, lenient=True)
    reader.choice("image_type", IMAGE_TYPES, default="png")
    source = parse_source(text, field="base64_image")
    if not isinstance(source, Inline):
        raise InvalidField("base64_image", "must be base64, not a URL")
    link = desk.keep_image(source.data, account, field="base64_image")
    return _done("The image is kept for 24 hours.", link=link, output=[link])


def get_all_models(call: Call, desk: Desk) -> Reply:
    """List the models. They are loaded when they are first drawn with, so there is no date to tell."""
    account, _ = _open(call, desk)
    names = desk.models(account)
    return Reply(body=[{"model_id": name, "status": "model_ready", "created_at": None} for name in names])


def verify_model(call: Call, desk: Desk) -> Reply:
    """Say whether there is a model of that name."""
    account, reader = _open(call, desk)
    name = reader.required_text("model_id", most=MAX_NAME_CHARS)
    return _done(f"The model is ready: {desk.model(name, account)}.", model_id=name)


def system_details(call: Call, desk: Desk) -> Reply:
    """Tell how much there is, and how much of the caller's waits: jobs, and seconds as estimated."""
    account, _ = _open(call, desk)
    waiting = desk.waiting(account)
    details = {"model_count": len(desk.models(account)), "queue_num": waiting, "queue_time": waiting * NOMINAL_IMAGE_S}
    return Reply(body={"status": "ok", **details})


def clear_queue(call: Call, desk: Desk) -> Reply:
    """Cancel the caller's jobs that wait."""
    account, _ = _open(call, desk)
    return _done(f"Waiting jobs cancelled: {desk.cancel_waiting(account)}.")


def clear_cache(call: Call, desk: Desk) -> Reply:
    """Do nothing, and say so."""
    _open(call, desk)
    return _done("There is nothing to clear: every picture is drawn anew.")


def refuse(call: Call, desk: Desk) -> Reply:
    """Refuse what is up to whoever runs the installation."""
    _open(call, desk)
    raise Forbidden("Many accounts share this server: whoever runs it restarts and updates it, not an API key.")


def _open(call: Call, desk: Desk) -> tuple[Account, Reader]:
    return desk.account(key(call)), Reader(fields_of(call), lenient=True)


def _done(message: str, **more: Any) -> Reply:
    return Reply(body={"status": "success", "messege": message, "message": message, **more})


_CALLS: Final = (
    ("upload_image", upload_image, "Keep a picture for 24 hours."),
    ("get_all_models", get_all_models, "List the models."),
    ("verify_model", verify_model, "Ask whether there is a model of a name."),
    ("system_details", system_details, "Tell how many models there are and what of the caller's waits."),
    ("clear_queue", clear_queue, "Cancel the caller's jobs that wait."),
    ("clear_cache", clear_cache, "Answer that there is no cache."),
    ("restart_server", refuse, "Refuse: that is the operator's business."),
    ("update_server", refuse, "Refuse: that is the operator's business."),
    ("update", refuse, "Refuse: that is the operator's business."),
)
#: Those that keep or end something.
_CHANGING: Final = (upload_image, clear_queue)


def routes(prefix: str) -> tuple[Answer, ...]:
    """Return the calls under a path."""
    return tuple(_route(f"{prefix}/{name}", name, answer, summary) for name, answer, summary in _CALLS)


def model_list(prefix: str) -> Answer:
    """Return the call that older clients list the models by."""
    return _route(f"{prefix}/model_list", "get_all_models", get_all_models, "List the models.")


def _route(path: str, name: str, answer: Callable[[Call, Desk], Reply], summary: str) -> Answer:
    scope = Scope.SUBMIT if answer in _CHANGING else Scope.READ
    return Answer(path=path, answer=answer, methods=("POST",), scope=scope, summary=summary, page=small(name))
