"""`darkroom keys`: accounts and their API keys."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from redis import Redis
from redis.exceptions import RedisError

from shared.accounts import Accounts, Credentials
from shared.api_keys import USUAL_SCOPES, ApiKeys, KeyInfo, Scope, read_scopes, write_scopes
from shared.cli.access import data_dir_option
from shared.cli.direct import direct_settings
from shared.cli.moments import Moment, date_text
from shared.cli.tables import print_table
from shared.errors import BacklogUnavailable, OutboundRefused
from shared.plans import Plans
from shared.redis_client import connect
from shared.safe_http import check_url
from shared.settings import Settings

_COLUMNS: Final = ("key", "made", "last used", "expires", "account", "name", "scopes")


@click.group()
def keys() -> None:
    """Make, list and revoke API keys; make accounts for them."""


class Scopes(click.ParamType[tuple[Scope, ...]]):
    """What a key may do, with commas between."""

    name = "scopes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Scope, ...]:
        """Read it, or fail in words."""
        try:
            return read_scopes(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@keys.command()
@click.argument("name", metavar="ACCOUNT")
@click.option("--name", "key_name", default="", help="What to call the key in lists.")
@click.option(
    "--scopes",
    type=Scopes(),
    default=write_scopes(USUAL_SCOPES),
    show_default=True,
    metavar="LIST",
    help=f"What the key may do, of {', '.join(Scope)}.",
)
@click.option("--expires", "expires_ms", type=Moment(), metavar="WHEN", help="90d, 12h, 2027-01-31.  [default: never]")
@click.option(
    "--plan", default="paid", show_default=True, help="For a new account; `darkroom accounts plans` lists them."
)
@click.option("--pool", default="default", show_default=True, help="For a new account; the POOL of its workers.")
@click.option("--credits", "credits_", type=click.IntRange(min=0), help="Add credits. Without any: not metered.")
@click.option("--notify", "notify_url", default="", metavar="URL", help="Where OpenSourceAIs' callbacks go.")
@click.option("--upload", "upload_url", default="", metavar="URL", help="Where OpenSourceAIs' pictures are sent.")
@click.option("--demo", is_flag=True, help="Give sessions of this account to all who ask for a demo.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@data_dir_option
def create(*, as_json: bool, data_dir: Path | None, **options: Any) -> None:
    """Make an API key for an account, and the account where there is none.

    The key and the secret are shown now and never again.
    """
    settings = direct_settings(data_dir)
    plans = Plans.load(settings)
    if options["plan"] not in plans:
        raise click.BadParameter(
            f"there is no plan {options['plan']!r}; known: {', '.join(plans)}", param_hint="--plan"
        )
    for option in ("notify_url", "upload_url"):
        _check_callback(options[option], settings)
    with _redis(settings) as redis:
        made = Accounts(redis, plans=plans).create_key(**options)
    click.echo(json.dumps(asdict(made), indent=2) if as_json else _as_text(made))


@keys.command()
@click.argument("account", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@data_dir_option
def ls(*, account: str | None, as_json: bool, data_dir: Path | None) -> None:
    """List the keys, of all accounts or of one."""
    with _redis(direct_settings(data_dir)) as redis:
        found = [key for key in ApiKeys(redis).all() if account in {None, key.account_name}]
    if as_json:
        click.echo(json.dumps([asdict(key) for key in found], indent=2))
    else:
        print_table(_COLUMNS, map(_told, found), stretch={"account", "name", "scopes"})


@keys.command()
@click.argument("prefix")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@data_dir_option
def revoke(*, prefix: str, as_json: bool, data_dir: Path | None) -> None:
    """Revoke the key that begins with PREFIX, and its sessions.

    It works no more from then on.
    """
    with _redis(direct_settings(data_dir)) as redis:
        gone = ApiKeys(redis).revoke(prefix)
    text = f"revoked {gone.prefix} of {gone.account_name}"
    click.echo(json.dumps(asdict(gone), indent=2) if as_json else text)


@contextmanager
def _redis(settings: Settings) -> Iterator[Redis]:
    try:
        with connect(settings) as redis:
            yield redis
    except RedisError as error:
        raise BacklogUnavailable from error


def _check_callback(url: str, settings: Settings) -> None:
    try:
        if url:
            check_url(url, settings.outbound_allow)
    except OutboundRefused as error:
        raise click.ClickException(f"{url}: {error.message}") from error


def _told(key: KeyInfo) -> tuple[str, ...]:
    """Return a key as a row; in UTC."""
    over = key.expires_ms is not None and key.expires_ms <= time.time_ns() // 1_000_000
    used, made = date_text(key.used_ms, none="never"), date_text(key.created_ms, none="")
    expires = date_text(key.expires_ms, none="never")[: len("2026-01-31")] + (" (over)" if over else "")
    days = (made[: len("2026-01-31")], used.removesuffix(" UTC"), expires)
    return (f"{key.prefix}…", *days, key.account_name, key.name, write_scopes(key.scopes))


def _as_text(made: Credentials) -> str:
    rows = {
        "account": f"{made.name} (id {made.account}, plan {made.plan})",
        "key": made.key,
        "scopes": ", ".join(made.scopes),
        "expires": date_text(made.expires_ms, none="never"),
        "client token": made.client_token,
        "secret": made.secret,
        "webhook secret": made.webhook_secret,
    }
    lines = [f"{click.style(name, bold=True):<{15 + len(click.style('', bold=True))}} {rows[name]}" for name in rows]
    return "\n".join([*lines, "", "The key and the secret cannot be shown again."])
