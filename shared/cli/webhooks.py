"""`darkroom webhooks`: try a receiver, see how deliveries went, send them again, change the secret."""

import json
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from shared.batch import BATCH_EVENTS
from shared.cli.access import data_dir_option, uses_api
from shared.cli.api import Api
from shared.cli.direct import direct_settings
from shared.errors import OutboundRefused
from shared.outbox import signed_headers
from shared.redis_client import connect
from shared.safe_http import Answer, OutboundFailed, SafeHttp
from shared.settings import Settings
from shared.webhook_secrets import WebhookSecrets, new_secret

#: What a receiver of `webhooks test` may take.
TEST_S: Final = 15.0
DEAD_COLUMNS: Final = ("uid", "event", "attempts", "settled_at", "status", "error")
CALL_COLUMNS: Final = ("at", "uid", "event", "attempt", "outcome", "status", "seconds", "url", "excerpt")


@click.group()
def webhooks() -> None:
    """Try a receiver, see how deliveries went, send them again, change the secret."""


@webhooks.command()
@click.argument("url")
@click.option("--account", help="Sign with the secrets of this account (by REDIS_URL or the running stack).")
@click.option("--secret", help="Sign with this one. Neither: with a fresh one, which is shown.")
@data_dir_option
def test(url: str, *, account: str | None, secret: str | None, data_dir: Path | None) -> None:
    """Send a sample to URL, signed as a job's webhook is; exit status 1 unless it answers 2xx."""
    settings = direct_settings(data_dir) if account else Settings.from_env()
    signing = WebhookSecrets(connect(settings)).live(account) if account else [secret or new_secret()]
    if not account and not secret:
        click.echo(f"signed with {signing[0]}")
    answer = _send_sample(url, signing, settings)
    click.echo(f"{answer.status} after {answer.seconds:.3f} s: {answer.body_excerpt[:200]}")
    if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        raise click.ClickException("only an answer of 2xx counts as delivered")


@webhooks.command()
@click.argument("uid", type=int, required=False)
@click.option("--batch", "of_batch", is_flag=True, help="UID is the number of a batch.")
@click.option("--dead", is_flag=True, help="Those that were given up.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@uses_api
def ls(api: Api, *, uid: int | None, of_batch: bool, dead: bool, as_json: bool) -> None:
    """List the latest calls: about the job UID, else for the account."""
    if dead:
        found = api.get("/v1/webhooks/dead", limit=200)
        columns: tuple[str, ...] = DEAD_COLUMNS
    else:
        path = f"{_path(uid, of_batch=of_batch)}/deliveries" if uid else "/v1/webhooks/deliveries"
        found = api.get(path, limit=None if uid else 200)
        columns = CALL_COLUMNS
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in found["data"]:
        table.add_row(*("" if row[name] is None else str(row[name]) for name in columns))
    Console().print(table)


@webhooks.command()
@click.argument("uids", type=int, nargs=-1)
@click.option("--batch", "of_batch", is_flag=True, help="UIDS are the numbers of batches.")
@click.option("--dead", is_flag=True, help="All that were given up, up to 200 at a time.")
@uses_api
def redeliver(api: Api, *, uids: tuple[int, ...], of_batch: bool, dead: bool) -> None:
    """Send the closing webhooks of the jobs UIDS once more."""
    if not uids and not dead:
        raise click.UsageError("name jobs, or --dead")
    found = [(uid, of_batch) for uid in uids]
    if dead:
        rows = api.get("/v1/webhooks/dead", limit=200)["data"]
        found += [(row["uid"], row["event"].startswith(BATCH_EVENTS)) for row in rows]
    for uid, is_batch in dict.fromkeys(found):
        api.post(f"{_path(uid, of_batch=is_batch)}/redeliver")
        click.echo(f"{uid} is sent again.")


@webhooks.command()
@uses_api
def disabled(api: Api) -> None:
    """List the endpoints that answered 410 and are called no more."""
    for row in api.get("/v1/webhooks/disabled")["data"]:
        click.echo(f"{row['since']}  {row['url']}")


@webhooks.command()
@click.argument("url")
@uses_api
def enable(api: Api, *, url: str) -> None:
    """Call the endpoint URL again, which had answered 410."""
    api.post("/v1/webhooks/enable", {"url": url})
    click.echo(f"{url} is called again.")


@webhooks.group()
def secret() -> None:
    """Change what an account's webhooks are signed with.

    First `rotate`: calls are signed with both. Give the new secret to every receiver. Then `retire` the old one.
    """


@secret.command()
@click.argument("account")
@data_dir_option
def rotate(account: str, *, data_dir: Path | None) -> None:
    """Make a new secret for ACCOUNT and show it; the one before stays good until it is retired."""
    live = _secrets(data_dir).rotate(account)
    click.echo(live[0])


@secret.command()
@click.argument("account")
@data_dir_option
def retire(account: str, *, data_dir: Path | None) -> None:
    """Sign with the newest secret of ACCOUNT alone."""
    _secrets(data_dir).retire(account)
    click.echo(f"The webhooks of {account} are signed with one secret.")


def _path(uid: int, *, of_batch: bool) -> str:
    return f"/v1/{'batches' if of_batch else 'jobs'}/{uid}"


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
