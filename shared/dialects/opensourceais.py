"""OpenSourceAIs ("OSAIS"): a client logs in, posts to an AI engine's backlog, and polls or is called back.

https://incubiq.gitbook.io/opensourceais/apis/ais/txt2img-and-img2img/ai_diffusion
"""

from pathlib import Path
from typing import Final

from shared.accounts import Account, UnknownClient, WrongSecret
from shared.dialects import opensourceais_answers as answers
from shared.dialects import opensourceais_schema as pages
from shared.dialects.base import Answer, Call, Desk, Dialect, Fetch, Reply, Submit
from shared.dialects.opensourceais_request import NAME, SCHEMA, check_engine, parse, values
from shared.errors import (
    BacklogFull,
    BacklogUnavailable,
    DarkroomError,
    InvalidField,
    JobNotFound,
    NotYours,
    RequestError,
    TooManyLogins,
    Unauthorized,
)
from shared.sessions import SESSION_S

#: The provider's document, served as it stands.
CONFIG: Final = Path(__file__).with_name("opensourceais_config.json").read_bytes()
#: JobSpec's names for what this provider calls otherwise.
FIELDS: Final = {
    "prompt": "word",
    "image": "url_upload",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "num_images": "cimg",
    "preview_every": "saveinterval",
    "webhook_url": "uriNotify",
}
#: Error -> the status and the text that the provider documents, and the field that holds it where it is another.
DOCUMENTED: Final[dict[type[DarkroomError], tuple[int, str] | tuple[int, str, str]]] = {
    UnknownClient: (404, "Could not find client", "message"),
    WrongSecret: (401, "Invalid secret", "message"),
    Unauthorized: (400, "A client token is required"),
    TooManyLogins: (429, "Too many attempts to log in", "message"),
    NotYours: (403, "Not your request, access denied"),
}
_UID_CHARS: Final = 16


def config(call: Call, _desk: Desk) -> Reply:
    """Answer the engine's parameters, byte for byte as documented."""
    check_engine(call)
    return Reply(body=CONFIG)


def log_in(call: Call, desk: Desk) -> Reply:
    """Trade a client token and its secret for a session."""
    found = values(call)
    token, secret = found.get("token"), found.get("secret")
    if not isinstance(token, str):
        raise RequestError("Token required")
    return _session(token, desk.log_in(token, secret if isinstance(secret, str) else ""))


def log_in_to_demo(_call: Call, desk: Desk) -> Reply:
    """Give a session of the demo client, where the operator has made one."""
    session = desk.log_in_to_demo()
    return _session(_token(desk.account(session)) or "", session)


def client(call: Call, desk: Desk) -> Reply:
    """Tell who is calling."""
    account = desk.account(key(call))
    balance, known = desk.balance(account), account.client
    user = {
        "uid": account.id,
        "username": account.name,
        "plan": account.plan,
        "isFree": account.plan == "free",
        "credits": None if balance is None else balance / 1000,
    }
    urls = {"uriNotify": known.notify_url, "uriUpload": known.upload_url} if known else {}
    return Reply(body={"data": {"token": _token(account), "user": user, **urls}})


def find(call: Call) -> int:
    """Return the uid that the path names; `JobNotFound` for what cannot be one."""
    uid = call.args["uid"]
    if not (uid.isascii() and uid.isdigit() and len(uid) <= _UID_CHARS):
        raise JobNotFound
    return int(uid)


def render_error(error: DarkroomError, call: Call) -> Reply:
    """Answer any error: `statusText` tells it, but at the login `message` does."""
    if isinstance(error, BacklogFull | BacklogUnavailable) and _is_submit(call):
        return failure(409, "Could not add to backlog")
    if isinstance(error, InvalidField):
        return failure(400, f"{FIELDS.get(error.field, error.field)}: {error.message}")
    for kind, answer in DOCUMENTED.items():
        if isinstance(error, kind):
            return failure(*answer)
    return failure(error.http_status, error.message)


def failure(status: int, text: str, name: str = "statusText") -> Reply:
    """Return the envelope of an error."""
    return Reply(status=status, body={"data": None, "status": status, name: text})


def key(call: Call) -> str:
    """Return the session or the API key."""
    return call.bearer()


def _session(token: str, session: str) -> Reply:
    data = {"token": token, "authToken": session, "duration": f"{SESSION_S // 3600}h"}
    return Reply(status=201, body={"data": data})


def _token(account: Account) -> str | None:
    return account.client.token if account.client else None


def _is_submit(call: Call) -> bool:
    return call.method == "POST" and "engine" in call.args


DIALECT: Final = Dialect(
    name=NAME,
    routes=(
        Answer(
            path="/api/v1/public/config/<engine>",
            answer=config,
            summary="An AI engine's parameters.",
            page=pages.CONFIG_PAGE,
        ),
        Answer(
            path="/api/v1/public/client/login",
            answer=log_in,
            methods=("POST",),
            summary="Log in.",
            page=pages.LOGIN_PAGE,
        ),
        Answer(
            path="/api/v1/public/client/demo",
            answer=log_in_to_demo,
            methods=("POST",),
            summary="Log in as a demo client.",
            page=pages.DEMO_PAGE,
        ),
        Answer(path="/api/v1/private/client", answer=client, summary="Who is calling.", page=pages.CLIENT_PAGE),
        Submit(
            path="/api/v1/private/client/ai/<engine>",
            parse=parse,
            render=answers.render_created,
            summary="Add a request to the backlog.",
            schema=SCHEMA,
            page=pages.SUBMIT_PAGE,
        ),
        Fetch(
            path="/api/v1/private/client/request/<uid>",
            find=find,
            render=answers.render_request,
            summary="How a request stands.",
            page=pages.READ_PAGE,
        ),
    ),
    key=key,
    render_error=render_error,
    render_webhook=answers.render_closing,
    callbacks=answers.callbacks,
    manual=pages.MANUAL,
)
