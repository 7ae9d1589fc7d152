"""`darkroom webhooks`: try a receiver, see how deliveries went, send them again, change the secret."""

import json
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import click

from shared.batch import BATCH_EVENTS
from shared.cli.access import data_dir_option, uses_api
from shared.cli.api import Api
from shared.cli.direct import direct_settings
from shared.cli.each import for_each
from shared.cli.tables import minute
from shared.errors import OutboundRefused
from shared.outbox import signed_headers
from shared.redis_client import connect
from shared.safe_http import Answer, OutboundFailed, SafeHttp
from shared.settings import Settings
from shared.webhook_secrets import WebhookSecrets, new_secret

#: What a receiver of `webhooks test` may take.
TEST_S: Final = 15.0
_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def webhooks() -> None:
    """Try a receiver, see how calls went, send them again."""


@webhooks.command()
@click.argument("url")
@click.option("--account", help="Sign with the secrets of this account (by REDIS_URL or the running stack).")
@click.option("--secret", help="Sign with this one. Neither: with a fresh one, which is shown.")
@_JSON
@data_dir_option
def test(url: str, *, account: str | None, secret: str | None, as_json: bool, data_dir: Path | None) -> None:
    """Send a sample to URL, signed as a job's webhook is.

    Exit status 1 unless it answers 2xx.
    """
    settings = direct_settings(data_dir) if account else Settings.from_env()
    signing = WebhookSecrets(connect(settings)).live(account) if account else [secret or new_secret()]
    if not account and not secret:
        click.echo(f"signed with {signing[0]}", err=as_json)
    answer = _send_sample(url, signing, settings)
    told = {"url": url, "status": answer.status, "seconds": answer.seconds, "excerpt": answer.body_excerpt}
    text = f"{answer.status} after {answer.seconds:.3f} s: {answer.body_excerpt[:200]}"
    click.echo(json.dumps(told, indent=2) if as_json else text)
    if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        raise click.ClickException("only an answer of 2xx counts as delivered")


@webhooks.command()
@click.argument("uid", type=int, required=False)
@click.option("--batch", "of_batch", is_flag=True, help="UID is the number of a batch.")
@click.option("--dead", is_flag=True, help="Those that were given up.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@uses_api
def ls(api: Api, *, uid: int | None, of_batch: bool, dead: bool, as_json: bool) -> None:
    """List the latest calls: about the job or batch UID, else all."""
    if dead:
        found = api.get("/v1/webhooks/dead", limit=200)
    else:
        path = f"{_path(uid, of_batch=of_batch)}/deliveries" if uid else "/v1/webhooks/deliveries"
        found = api.get(path, limit=None if uid else 200)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for row in found["data"]:
        click.echo(_as_dead(row) if dead else _as_call(row))


@webhooks.command()
@click.argument("uids", type=int, nargs=-1)
@click.option("--batch", "of_batch", is_flag=True, help="UIDS are the numbers of batches.")
@click.option("--dead", is_flag=True, help="All that were given up, up to 200 at a time.")
@_JSON
@uses_api
def redeliver(api: Api, *, uids: tuple[int, ...], of_batch: bool, dead: bool, as_json: bool) -> None:
    """Send the closing webhooks of the jobs or batches UIDS once more."""
    if not uids and not dead:
        raise click.UsageError("name jobs, batches with --batch, or --dead")
    of_batches = dict.fromkeys(uids, of_batch)
    if dead:
        rows = api.get("/v1/webhooks/dead", limit=200)["data"]
        of_batches |= {row["uid"]: row["event"].startswith(BATCH_EVENTS) for row in rows}

    def send(uid: int) -> dict[str, Any]:
        told = api.post(f"{_path(uid, of_batch=of_batches[uid])}/redeliver")
        return {"uid": uid, "webhooks": told["webhooks"]}

    for_each(of_batches, send, says=lambda _: "is sent again", as_json=as_json)


@webhooks.command()
@_JSON
@uses_api
def disabled(api: Api, *, as_json: bool) -> None:
    """List the endpoints that answered 410 and are called no more."""
    found = api.get("/v1/webhooks/disabled")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for row in found["data"]:
        click.echo(f"{minute(row['since'])}  {row['url']}")


@webhooks.command()
@click.argument("endpoint", metavar="ENDPOINT")
@_JSON
@uses_api
def enable(api: Api, *, endpoint: str, as_json: bool) -> None:
    """Call the URL ENDPOINT again, which had answered 410."""
    left = api.post("/v1/webhooks/enable", {"url": endpoint})
    click.echo(json.dumps(left, indent=2) if as_json else f"{endpoint} is called again.")


@webhooks.group()
def secret() -> None:
    """Change what an account's webhooks are signed with.

    First `rotate`: calls are signed with both. Give the new secret to every receiver. Then `retire` the old one.
    """


@secret.command()
@click.argument("account")
@_JSON
@data_dir_option
def rotate(account: str, *, as_json: bool, data_dir: Path | None) -> None:
    """Make a new secret for ACCOUNT and show it.

    The one before stays good until it is retired.
    """
    fresh = _secrets(data_dir).rotate(account)[0]
    click.echo(json.dumps({"account": account, "secret": fresh}, indent=2) if as_json else fresh)


@secret.command()
@click.argument("account")
@_JSON
@data_dir_option
def retire(account: str, *, as_json: bool, data_dir: Path | None) -> None:
    """Sign with the newest secret of ACCOUNT alone."""
    _secrets(data_dir).retire(account)
    told = f"The webhooks of {account} are signed with one secret."
    click.echo(json.dumps({"account": account}, indent=2) if as_json else told)


def _path(uid: int, *, of_batch: bool) -> str:
    return f"/v1/{'batches' if of_batch else 'jobs'}/{uid}"


def _as_call(row: Mapping[str, Any]) -> str:
    """Return a call in two lines: when, about what, how it went; and where, with what was answered."""
    how = f"{row['outcome']} {row['status'] or ''}".rstrip()
    first = (
        f"{minute(row['at'])}  {row['uid']}  {row['event']}  call {row['attempt']}: {how} after {row['seconds']:.1f} s"
    )
    return f"{first}\n    {row['url']}" + (f"  {' '.join(row['excerpt'].split())}" if row["excerpt"] else "")


def _as_dead(row: Mapping[str, Any]) -> str:
    why = row["error"] or f"answered {row['status']}"
    return f"{minute(row['settled_at'])}  {row['uid']}  {row['event']}  {row['attempts']} calls\n    {why}"


def _secrets(data_dir: Path | None) -> WebhookSecrets:
    return WebhookSecrets(connect(direct_settings(data_dir)))


def _send_sample(url: str, signing: list[str], settings: Settings) -> Answer:
    body = json.dumps(_sample()).encode()
    headers = signed_headers(f"msg_test_{time.time_ns()}", body, webhook_secrets=signing)
    headers |= {"Content-Type": "application/json", "User-Agent": "Darkroom-Webhook/1"}
    try:
        return SafeHttp(allow=settings.outbound_allow).post(url, body, headers, timeout_s=TEST_S)
    except OutboundRefused as error:
        raise click.ClickException(f"{url}: {error.message} (OUTBOUND_ALLOW names what may be called)") from error
    except OutboundFailed as error:
        raise click.ClickException(f"{url}: {error.message}") from error


def _sample() -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    times = dict.fromkeys(("created_at", "started_at", "finished_at"), now)
    told = {"event": "succeeded", "uid": 0, "status": "succeeded", "track_id": "a sample"}
    return {**told, **times, "outputs": [], "timings": {}, "error": None}
