"""docs/errors.md: every error, from the tree of classes, each wire format's own rendering beside it."""

import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Final

from api.faults import HTTP_ERRORS
from shared.dialects import PROVIDERS
from shared.dialects.base import Call, Dialect, Fetch
from shared.errors import ConfigurationError, DarkroomError, JobError, OutboundRefused
from shared.job import Status
from shared.spec import canonical_json
from tests.dialects.gold import ACCOUNT, View, ended, find
from tests.reference.table import table

ROOT: Final = Path(__file__).parents[2]
#: Errors that only the native API can answer.
NATIVE: Final = frozenset(
    {
        *("batch_not_found", "invalid_batch", "budget_exceeded", "nothing_to_retry", "not_failed", "no_webhook"),
        *("idempotency_conflict", "too_many_streams", "link_invalid", "link_expired", "unknown_field"),
    }
)
#: Errors that, the native API apart, only some dialects can come upon -> those.
ONLY: Final = {
    **dict.fromkeys(
        ("unknown_engine", "unknown_client", "wrong_secret", "no_demo", "too_many_logins"), ("opensourceais",)
    ),
    "not_finished": ("octoai",),
    "timed_out": ("octoai", "stability"),
    "job_gone": ("opensourceais", "modelslab", "octoai"),
    "job_not_found": ("opensourceais", "modelslab", "octoai"),
    "image_not_found": ("modelslab", "octoai", "stability"),
}
#: Errors that end a command, and no request.
COMMANDS: Final = frozenset(
    {
        *("already_running", "port_taken", "procfile_missing", "stack_failed", "valkey_missing"),
        *(ConfigurationError.code, "key_not_found", "too_little", "unknown_account"),
    }
)
#: Names of classes above others, of what `/readyz` calls `missing`, and of what a webhook's attempt ends with.
UNSEEN: Final = frozenset({"job_failed", "service_unavailable", "no_worker", "no_courier", "outbound_failed"})
#: A request that each dialect takes, and its path.
SUBMITS: Final = {
    "opensourceais": ("/api/v1/private/client/ai/diffusion", {"word": "a fox"}),
    "modelslab": ("/api/v1/enterprise/text2img", {"prompt": "a fox"}),
    "octoai": ("/generate/sd", {"prompt": "a fox"}),
    "stability": ("/v1/generation/default/text-to-image", {"text_prompts": [{"text": "a fox"}]}),
    "aithriving": ("/api/generate/basic/textToImage", {"prompt": "a fox", "width": 512, "height": 512}),
}
HEAD: Final = """\
# Errors

<!-- Made by `make docs` from the error classes and the dialects' own code. Change those. -->

Every error has a **code**, which is stable: compare that, never the message. The native API answers problem documents
([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)) with `code`, `detail`, where there is one `field`, and
`request_id`, which the log knows. *Again* says whether the same request may succeed later; the answer then bears
`Retry-After`, where it is known after how long.

## Refusals

*Status* is the native API's; the last columns say what the wire formats answer where they come upon it, to a submission
where it can be one. The message, and the field as that format calls it, come along. aithriving answers 200 with
`{"code": -1, "message": …, "data": null}` to all of them. Where OpenSourceAIs' submissions answer 409, its reads answer
503.

"""
JOB_ERRORS: Final = """
## Why jobs fail

In a job's `error.code`; a job that fails costs nothing. Besides these, what the tables above have, where it shows only
when the job is drawn: `invalid_value`, `prompt_too_long`, `image_unreachable`, `storage_unavailable`.

"""


def page() -> str:
    """Return the page."""
    return "".join(
        (
            HEAD,
            _refusals(),
            "\n## Of the native API alone\n\n",
            table(("code", "status", "again", "when"), sorted([*map(_row, _kinds(NATIVE)), *_http_rows()])),
            JOB_ERRORS,
            table(("code", "again", "when"), sorted((*_row(kind)[::2], _when(kind)) for kind in _job_errors())),
            "\nThe wire formats tell of a failed job so:\n\n",
            table(("wire format", "status", "answer"), map(_failed, PROVIDERS.values())),
            "\n## Of commands\n\n",
            table(("code", "when"), sorted((f"`{kind.code}`", _when(kind)) for kind in _kinds(COMMANDS))),
        )
    )


def tree() -> list[type[DarkroomError]]:
    """Return every error class of the code."""
    for package in ("api", "shared", "worker"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if re.search(r"^    code(: ClassVar\[str\])? = ", path.read_text(encoding="utf-8"), re.MULTILINE):
                import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    ours = ("api", "shared", "worker")
    return [kind for kind in dict.fromkeys(_family(DarkroomError)) if kind.__module__.split(".")[0] in ours]


def made(kind: type[DarkroomError]) -> DarkroomError:
    """Return an error of a kind, whatever its own constructor asks for, in the field `prompt` where it has one."""
    error = kind.__new__(kind)
    DarkroomError.__init__(error, _when(kind))
    error.__dict__.update(field="prompt", retry_after_s=1)
    return error


def shown(dialect: Dialect, kind: type[DarkroomError]) -> str:
    """Return how a dialect answers an error to a submission: the status, and its own name or words for it."""
    if dialect.name not in ONLY.get(kind.code, PROVIDERS):
        return "-"
    error = made(kind)
    reply = dialect.render_error(error, Call(method="POST", args={"engine": "diffusion"}))
    words = {"octoai": _octoai, "stability": _stability, "opensourceais": _opensourceais}
    said = words[dialect.name](reply.body, error) if dialect.name in words else ""
    return f"{reply.status} {said}".strip()


def _octoai(body: dict, _error: DarkroomError) -> str:
    return f"`{body['detail'][0]['type']}`" if "detail" in body else ""


def _stability(body: dict, _error: DarkroomError) -> str:
    return f"`{body['name']}`"


def _opensourceais(body: dict, error: DarkroomError) -> str:
    said = body.get("statusText", body.get("message", ""))
    return "" if error.message in said else f'"{said}"'


def _refusals() -> str:
    hidden = NATIVE | COMMANDS | UNSEEN
    kinds = [kind for kind in tree() if kind.code not in hidden and not issubclass(kind, JobError)]
    # Callers see it only as what is wrong with a field.
    kinds.remove(OutboundRefused)
    columns = [PROVIDERS[name] for name in SUBMITS if name != "aithriving"]
    rows = sorted((*_row(kind), *(shown(dialect, kind) for dialect in columns)) for kind in kinds)
    return table(("code", "status", "again", "when", *(dialect.manual.title for dialect in columns)), rows)


def _kinds(codes: frozenset[str]) -> list[type[DarkroomError]]:
    return [kind for kind in tree() if kind.code in codes]


def _job_errors() -> list[type[DarkroomError]]:
    return [kind for kind in tree() if issubclass(kind, JobError) and kind is not JobError]


def _row(kind: type[DarkroomError]) -> tuple[str, ...]:
    return f"`{kind.code}`", str(kind.http_status), "yes" if kind.retryable else "", _when(kind)


def _http_rows() -> Iterator[tuple[str, ...]]:
    for code, (status, meaning) in HTTP_ERRORS.items():
        yield f"`{code}`", str(status), "", meaning


def _when(kind: type[DarkroomError]) -> str:
    return re.sub(r"\s+", " ", kind.__doc__ or "").strip()


def _failed(dialect: Dialect) -> tuple[str, ...]:
    path, fields = SUBMITS[dialect.name]
    route, args = find(dialect, path)
    submission = route.parse(Call(method="POST", args=args, body=json.dumps(fields).encode()), ACCOUNT).submission
    job = ended(submission, Status.FAILED, {"code": "generation_failed", "message": "The pipeline failed."})
    reads = [each for each in dialect.routes if isinstance(each, Fetch)]
    # Where a submission is answered at once, reading it tells how it went.
    render = reads[0].render if dialect.name in {"opensourceais", "modelslab"} else route.render
    reply = render(job, View())
    return dialect.manual.title, str(reply.status), f"`{canonical_json(reply.body)}`"


def _family(kind: type[DarkroomError]) -> list[type[DarkroomError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in _family(child))]
