"""What the OpenAPI document says of Stability's routes."""

from typing import Final

from shared.dialects.pages import BEARER, FORM, Manual, Page, Told, number, record, text, whole

_ARTIFACT: Final = record(
    "StabilityArtifact",
    {
        "base64": text("The image.", contentEncoding="base64"),
        "seed": whole("The seed that draws this very image again."),
        "finishReason": text("What became of it.", enum=["SUCCESS", "CONTENT_FILTERED"]),
    },
)
_ARTIFACTS: Final = record(
    "StabilityArtifacts", {"artifacts": {"type": "array", "items": _ARTIFACT, "description": "The images."}}
)
_IMAGES: Final = {
    200: (
        Told(description="The images; where `image/png` is accepted, the one image itself.", schema=_ARTIFACTS),
        Told(
            description="The image; `Seed` and `Finish-Reason` are headers.",
            schema={"type": "string", "format": "binary"},
            content_type="image/png",
        ),
    )
}
_HEADERS: Final = {"Accept": "`image/png`: answer the image itself; `samples` is 1 then."}
_READING: Final = (401, 403, 429, 500, 503)
_DRAWING: Final = (400, 402, 404, 413, *_READING, 504)
_ENGINE: Final = record(
    "StabilityEngine",
    {
        "id": text("What to write into the path."),
        "name": text("The same."),
        "description": text("Empty."),
        "type": text("Always so.", const="PICTURE"),
    },
)
_ENGINES: Final = {"title": "StabilityEngines", "type": "array", "items": _ENGINE}
_ORGANIZATION: Final = record(
    "StabilityOrganization",
    {
        "id": text("The account."),
        "name": text("Its name."),
        "role": text("Always so.", const="MEMBER"),
        "is_default": {"const": True, "description": "Always so."},
    },
)
_ACCOUNT: Final = record(
    "StabilityAccount",
    {
        "id": text("The account."),
        "email": text("Empty: accounts have no address.", const=""),
        "organizations": {"type": "array", "items": _ORGANIZATION, "description": "The account itself."},
    },
)
_BALANCE: Final = record("StabilityBalance", {"credits": number("What is left.")})
_ERROR: Final = record(
    "StabilityError",
    {
        "id": text("Names this request in the log."),
        "name": text("The kind of error."),
        "message": text("What is wrong; of a field, its name first."),
    },
)

TEXT_PAGE: Final = Page(answers=_IMAGES, errors=_DRAWING, headers=_HEADERS)
FORM_PAGE: Final = Page(answers=_IMAGES, errors=_DRAWING, headers=_HEADERS, content_types=(FORM,))
ENGINES_PAGE: Final = Page(answers={200: (Told(description="The models.", schema=_ENGINES),)}, errors=_READING)
ACCOUNT_PAGE: Final = Page(answers={200: (Told(description="Who is calling.", schema=_ACCOUNT),)}, errors=_READING)
BALANCE_PAGE: Final = Page(answers={200: (Told(description="What is left.", schema=_BALANCE),)}, errors=_READING)
MANUAL: Final = Manual(
    title="Stability",
    description="Stability's REST API, version 1. A call answers once its images are there. In forms `text_prompts` "
    "are spelled `text_prompts[0][text]`, `text_prompts[0][weight]`, `text_prompts[1][text]` and so on.",
    keys=BEARER,
    error=lambda _: _ERROR,
    arguments={"engine": "The model: a name or an alias of the catalog."},
)
