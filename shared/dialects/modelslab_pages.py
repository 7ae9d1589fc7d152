"""What the OpenAPI document says of ModelsLab's calls: their answers, and the bodies of the smaller ones."""

from typing import Any, Final

from shared.dialects import modelslab_fields as fields
from shared.dialects.pages import BEARER, FORM, JSON, URLENCODED, Manual, Page, Told, number, record, text, texts, whole

_TYPES: Final = (JSON, FORM, URLENCODED)
_ID: Final = whole("The job's number.")
_OUTPUT: Final = texts("Links to the images; with `base64` the images themselves.")
_META: Final = {
    "title": "ModelslabMeta",
    "type": "object",
    "description": "What the images are made with, as used: the prompts with what was added, the seed that was drawn.",
    "properties": {
        **{name: text(says) for name, says in (("prompt", "As used."), ("negative_prompt", "As used."))},
        "model_id": text("The catalog's name."),
        "scheduler": text("Null until a worker has chosen.", null=True),
        "safetychecker": text("yes or no."),
        "W": whole("Width in pixels."),
        "H": whole("Height in pixels."),
        "guidance_scale": number("As used."),
        "init_image": text("A link to our copy."),
        "mask_image": text("A link to our copy."),
        "steps": whole("As used."),
        "n_samples": whole("How many images."),
        "strength": number("As used; absent without an image."),
        "seed": whole("The first image's.", null=True),
        **{name: text("Always so.", const="no") for name in ("multi_lingual", "full_url", "upscale")},
        "outdir": text("Always so.", const="out"),
        "file_prefix": text("How the images' names begin."),
    },
}
_SUCCESS: Final = record(
    "ModelslabSuccess",
    {
        "status": text("success", const="success"),
        "generationTime": number("Seconds."),
        "id": _ID,
        "output": _OUTPUT,
        "meta": _META,
        "proxy_links": texts("The links again, under the community's paths."),
        "webhook_status": text("There with a webhook."),
        "nsfw_content_detected": {"type": "boolean", "description": "There where an image was unsafe."},
    },
    optional=("proxy_links", "webhook_status", "nsfw_content_detected"),
)
_PROCESSING: Final = record(
    "ModelslabProcessing",
    {
        "status": text("processing", const="processing"),
        "tip": text("What to do."),
        "eta": number("An estimate in seconds."),
        "messege": text("As `message`."),
        "message": text("For people."),
        "webhook_status": text("Empty."),
        "fetch_result": text("Where to ask again."),
        "id": _ID,
        "output": {"type": "array", "maxItems": 0, "description": "Empty."},
        "meta": _META,
    },
)
_FAILED: Final = record(
    "ModelslabFailed",
    {"status": text("failed", const="failed"), "id": _ID, "message": text("Why there are no images.")},
)
_JOB: Final = {
    200: (
        Told(
            description="`success` with the images, `processing` while they are drawn, `failed` where there are none.",
            schema={"title": "ModelslabJob", "oneOf": [_SUCCESS, _PROCESSING, _FAILED]},
        ),
    )
}
_ERRORS: Final = (400, 401, 403, 413, 429, 500, 503)
SUBMIT: Final = Page(answers=_JOB, errors=(*_ERRORS, 402), content_types=_TYPES)
_KEY: Final = {"type": "string", "description": "The API key; a Bearer header does as well."}


def fetch(*, in_path: bool) -> Page:
    """Return the page of a route that reads a job, whose id is in the path or in the body."""
    found: dict[str, Any] = {"title": "ModelslabKey", "type": "object", "properties": {"key": _KEY}}
    if not in_path:
        request_id = {"type": ["integer", "string"], "minimum": 1, "description": "The job's `id`."}
        found = {
            "title": "ModelslabFetch",
            "type": "object",
            "required": ["request_id"],
            "properties": {"key": _KEY, "request_id": request_id},
        }
    return Page(body=found, answers=_JOB, errors=(*_ERRORS, 404, 410), content_types=_TYPES)


def small(name: str) -> Page:
    """Return the page of one of the smaller calls."""
    if name in _REFUSED:
        return Page(body=_ONLY_KEY, errors=_ERRORS, content_types=_TYPES)
    body, schema, says = _SMALL[name]
    told = Told(description=says, schema=schema)
    return Page(body=body, answers={200: (told,)}, errors=_ERRORS, content_types=_TYPES)


def _body(title: str, properties: dict[str, Any], *required: str) -> dict[str, Any]:
    named = {"title": title, "type": "object", "properties": {"key": _KEY, **properties}}
    return {**named, "required": [*required]} if required else named


def _done(title: str, **more: Any) -> dict[str, Any]:
    said = {"messege": text("As `message`."), "message": text("What was done.")}
    return record(title, {"status": text("success", const="success"), **said, **more})


_REFUSED: Final = frozenset({"restart_server", "update_server", "update"})
_ONLY_KEY: Final = _body("ModelslabKey", {})
_UPLOAD: Final = _body(
    "ModelslabUpload",
    {
        "base64_image": {"type": "string", "description": "PNG, JPEG or WebP in base64."},
        "image_type": {"type": ["string", "null"], "default": "png", "description": "png, jpg, jpeg or webp."},
    },
    "base64_image",
)
_VERIFY: Final = _body(
    "ModelslabVerify",
    {"model_id": {"type": "string", "maxLength": fields.MAX_NAME_CHARS, "description": "A name or an alias."}},
    "model_id",
)
_MODEL: Final = record(
    "ModelslabModel",
    {
        "model_id": text("What to write into `model_id`."),
        "status": text("model_ready", const="model_ready"),
        "created_at": {"type": "null", "description": "Models are loaded when they are first drawn with."},
    },
)
#: call -> its body, its answer, and what the answer means.
_SMALL: Final[dict[str, tuple[dict[str, Any], dict[str, Any], str]]] = {
    "upload_image": (
        _UPLOAD,
        _done("ModelslabUploaded", link=text("Opens the image for 24 hours."), output=texts("The same link.")),
        "The image is kept.",
    ),
    "get_all_models": (_ONLY_KEY, {"title": "ModelslabModels", "type": "array", "items": _MODEL}, "The models."),
    "verify_model": (_VERIFY, _done("ModelslabVerified", model_id=text("As asked.")), "There is such a model."),
    "system_details": (
        _ONLY_KEY,
        record(
            "ModelslabDetails",
            {
                "status": text("ok", const="ok"),
                "model_count": whole("How many models there are."),
                "queue_num": whole("How many of the caller's jobs wait."),
                "queue_time": number("An estimate in seconds."),
            },
        ),
        "How much there is.",
    ),
    "clear_queue": (_ONLY_KEY, _done("ModelslabDone"), "The caller's waiting jobs are cancelled."),
    "clear_cache": (_ONLY_KEY, _done("ModelslabDone"), "There is no cache."),
}
_ERROR: Final = record(
    "ModelslabError",
    {
        "status": text("error", const="error"),
        "message": text("What is wrong; of a field, its name first."),
        "retry_after": whole("Seconds; with 429."),
    },
    optional=("retry_after",),
)
MANUAL: Final = Manual(
    title="ModelsLab",
    description="Formerly stablediffusionapi.com. The key is `key` in the body, or a Bearer header. A call waits a "
    "little for its images; what takes longer is `processing`, to be fetched. Numbers may be strings, `yes` and `no` "
    "booleans; null, an empty string and a field left out are the same. The body is JSON, whatever its Content-Type "
    "says, or a form.",
    keys=BEARER,
    error=lambda _: _ERROR,
    arguments={"id": "The job's number."},
    key_in_body=True,
)
