"""What the OpenAPI document says of OpenSourceAIs' routes."""

from typing import Final

from shared.dialects.opensourceais_request import ENGINE
from shared.dialects.pages import (
    BEARER,
    FORM,
    JSON,
    URLENCODED,
    Manual,
    Page,
    Schema,
    Told,
    number,
    record,
    text,
    whole,
)

_TYPES: Final = (JSON, URLENCODED, FORM)
_SESSION: Final = Told(
    description="A session, for `Authorization: Bearer`.",
    schema=record(
        "OpensourceaisSession",
        {
            "data": record(
                "OpensourceaisLogin",
                {
                    "token": text("The client token."),
                    "authToken": text("The session."),
                    "duration": text("How long it lasts.", examples=["72h"]),
                },
            )
        },
    ),
)
_USER: Final = record(
    "OpensourceaisUser",
    {
        "uid": text("The account."),
        "username": text("Its name."),
        "plan": text("Its plan."),
        "isFree": {"type": "boolean", "description": "Whether the plan is free."},
        "credits": number("What is left; null where nobody counts.", null=True),
    },
)
_CLIENT: Final = record(
    "OpensourceaisClient",
    {
        "data": record(
            "OpensourceaisClientData",
            {
                "token": text("The client token; null for an account without one.", null=True),
                "user": _USER,
                "uriNotify": text("Where notices go.", null=True),
                "uriUpload": text("Where images go.", null=True),
            },
            optional=("uriNotify", "uriUpload"),
        )
    },
)
_CREATED: Final = record(
    "OpensourceaisCreated",
    {
        "data": record(
            "OpensourceaisReceipt",
            {"uid": whole("The request's number."), "created_at": text("When.", format="date-time")},
        )
    },
)
_IMAGE: Final = record(
    "OpensourceaisImage", {"filename": text("A link to the image."), "cycle": whole("Its place, from 0.")}
)
_REQUEST: Final = record(
    "OpensourceaisRequestData",
    {
        "client_token": text("The client token; null without one.", null=True),
        "uid_backlog": whole("The request's number."),
        "ai_engine": text("The engine.", const=ENGINE),
        "params": {"type": "object", "description": "What was asked for, with the seed that was drawn."},
        "response": {"type": "array", "items": _IMAGE, "description": "Empty until the images are there."},
        "cost_in_sec": whole("Seconds a worker was at it, rounded up."),
        "started_at": text("Absent before a worker began.", format="date-time"),
        "ended_at": text("Absent until the end.", format="date-time"),
        "error": record("OpensourceaisFailure", {"code": text("Its stable name."), "message": text("Why.")}),
    },
    optional=("started_at", "ended_at", "error"),
)
_CONFIG: Final = {
    "title": "OpensourceaisConfig",
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "object", "description": "The engine's parameters, for who draws a form of them."}},
}
_CREDENTIALS: Final = {
    "title": "OpensourceaisCredentials",
    "type": "object",
    "required": ["token", "secret"],
    "properties": {
        "token": {"type": "string", "description": "A client token."},
        "secret": {"type": "string", "description": "Its secret."},
    },
}


def _answer(status: int, description: str, schema: Schema) -> dict[int, tuple[Told, ...]]:
    return {status: (Told(description=description, schema=schema),)}


CONFIG_PAGE: Final = Page(answers=_answer(200, "The documented config.", _CONFIG), errors=(404, 500), public=True)
LOGIN_PAGE: Final = Page(
    body=_CREDENTIALS,
    content_types=_TYPES,
    answers={201: (_SESSION,)},
    errors=(400, 401, 404, 413, 429, 500, 503),
    public=True,
)
DEMO_PAGE: Final = Page(answers={201: (_SESSION,)}, errors=(403, 429, 500, 503), public=True)
CLIENT_PAGE: Final = Page(answers=_answer(200, "Who is calling.", _CLIENT), errors=(400, 403, 429, 500, 503))
SUBMIT_PAGE: Final = Page(
    content_types=_TYPES,
    answers=_answer(201, "It is in the backlog.", _CREATED),
    errors=(400, 402, 403, 404, 409, 413, 429, 500, 503),
)
READ_PAGE: Final = Page(
    answers=_answer(200, "How it stands.", record("OpensourceaisRequest", {"data": _REQUEST})),
    errors=(400, 403, 404, 410, 429, 500, 503),
)
_ERROR: Final = record(
    "OpensourceaisError",
    {
        "data": {"type": "null", "description": "Nothing."},
        "status": whole("The HTTP status."),
        "statusText": text("What is wrong; of a parameter, its name first."),
        "message": text("Instead of `statusText`, where a login fails."),
    },
    optional=("statusText", "message"),
)
MANUAL: Final = Manual(
    title="OpenSourceAIs",
    description="A client logs in with its token and secret, posts to an engine's backlog, and polls or is called "
    "back. An API key does instead of a session. Without either the answer is 400, as the provider has it. Numbers may "
    "be strings.",
    keys=BEARER,
    error=lambda _: _ERROR,
    arguments={"engine": f"The AI engine: `{ENGINE}`.", "uid": "The request's number."},
)
