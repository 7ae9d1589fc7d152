"""`darkroom accounts`: who has what plan, what credits, and what they used."""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from decimal import Decimal, InvalidOperation
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from shared.books import USAGE_DAYS, Books, Statement, Usage
from shared.celery_app import CeleryBell, make_celery
from shared.cli.access import data_dir_option
from shared.cli.direct import direct_settings
from shared.cli.moments import date_text
from shared.errors import BacklogUnavailable
from shared.ledger import MILLICREDITS, Prices
from shared.plans import Plan, Plans
from shared.redis_client import connect
from shared.settings import Settings

USAGE_COLUMNS: Final = ("account", *(each.name for each in fields(Usage)))


@dataclass(frozen=True, slots=True)
class Office:
    """What these commands work with."""

    settings: Settings
    books: Books


@click.group()
def accounts() -> None:
    """Look at accounts; give them credits; put them on plans.

    These commands speak to Redis itself: by REDIS_URL, else by the data directory of a running stack.
    """


def _uses_books(command: Callable[..., Any]) -> Callable[..., Any]:
    @data_dir_option
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @wraps(command)
    def with_books(*args: Any, data_dir: Path | None, **kwargs: Any) -> Any:
        with _office(direct_settings(data_dir)) as office:
            return command(office, *args, **kwargs)

    return with_books


@contextmanager
def _office(settings: Settings) -> Iterator[Office]:
    try:
        with connect(settings) as redis:
            yield Office(settings, Books(redis, CeleryBell(make_celery(settings))))
    except RedisError as error:
        raise BacklogUnavailable from error


class Credits(click.ParamType[int]):
    """Credits with up to three decimals, as millicredits."""

    name = "credits"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it, or fail in words."""
        try:
            amount = Decimal(str(value)) * MILLICREDITS
        except InvalidOperation:
            self.fail(f"{value!r} is no number.", param, ctx)
        if not amount.is_finite() or amount != amount.to_integral_value() or abs(amount) > 10**12:
            self.fail(f"{value!r} must have at most three decimals, and be less than a billion.", param, ctx)
        return int(amount)


@accounts.command()
@_uses_books
def ls(office: Office, *, as_json: bool) -> None:
    """List the accounts."""
    found = office.books.statements()
    if as_json:
        _print_json([asdict(each) for each in found])
        return
    table = Table(
        "account",
        "plan",
        "pool",
        "waiting",
        "running",
        "balance",
        "reserved",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for each in found:
        amounts = (credits_text(each.balance), credits_text(each.reserved))
        table.add_row(each.name, each.plan, each.pool, str(each.waiting), str(each.running), *amounts)
    Console().print(table)


@accounts.command()
@click.argument("name")
@_uses_books
def show(office: Office, *, name: str, as_json: bool) -> None:
    """Show the account NAME: its plan, its credits, and what it used today."""
    account = office.books.id_of(name)
    statement, today = office.books.statement(account), office.books.usage(account, days=1)[0]
    if as_json:
        _print_json({**asdict(statement), "today": _row(today)})
        return
    told = {**asdict(statement), **_amounts(statement), "created_ms": date_text(statement.created_ms, none="")}
    for label, value in told.items():
        click.echo(f"{label.removesuffix('_ms'):<12} {value}")
    click.echo(f"{'today':<12} {today.jobs} jobs, {today.images} images, {credits_text(today.millicredits)} credits")


@accounts.command()
@click.argument("name")
@click.argument("amount", type=Credits(), metavar="AMOUNT")
@click.option("--dollars", is_flag=True, help="AMOUNT is in dollars, which buy what the prices say.")
@_uses_books
def topup(office: Office, *, name: str, amount: int, dollars: bool, as_json: bool) -> None:
    """Give the account NAME so many credits.

    They have up to three decimals; `-- -5` takes five unspent ones away. From then on it is metered: jobs that its
    credits do not cover are refused.
    """
    if dollars:
        amount *= Prices.load(office.settings).credits_per_dollar
    available = office.books.grant(office.books.id_of(name), amount)
    if as_json:
        _print_json({"account": name, "granted": amount, "available": available})
    else:
        click.echo(f"{name} has {credits_text(available)} credits to spend.")


@accounts.command()
@click.argument("name", required=False)
@click.option("--days", type=click.IntRange(1, USAGE_DAYS), default=30, show_default=True, help="Today among them.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, one line an account and day.")
@_uses_books
def usage(office: Office, *, name: str | None, days: int, as_csv: bool, as_json: bool) -> None:
    """Show what accounts used on each day (UTC): all, or NAME.

    Days without any use are left out.
    """
    books = office.books
    ids = {name: books.id_of(name)} if name else {each.name: each.id for each in books.statements()}
    rows = [
        {"account": account, **_row(day)}
        for account, id_ in ids.items()
        for day in books.usage(id_, days=days)
        if day != Usage(day=day.day)
    ]
    if as_json:
        _print_json(rows)
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, USAGE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        Console().print(_table(USAGE_COLUMNS, [[str(row[column]) for column in USAGE_COLUMNS] for row in rows]))


@accounts.command("plan")
@click.argument("name")
@click.argument("plan")
@_uses_books
def set_plan(office: Office, *, name: str, plan: str, as_json: bool) -> None:
    """Put the account NAME on PLAN.

    On the plan that it is on already: give it that plan's bounds anew, after these were changed.
    """
    plans = Plans.load(office.settings)
    if plan not in plans:
        raise click.BadParameter(f"there is no plan {plan!r}; known: {', '.join(plans)}", param_hint="PLAN")
    account = office.books.id_of(name)
    office.books.set_plan(account, plans[plan])
    if as_json:
        _print_json(asdict(office.books.statement(account)))
    else:
        click.echo(f"{name} is on the plan {plan}.")


@accounts.command("plans")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_plans(*, as_json: bool) -> None:
    """List the plans: those shipped, and those of PLANS_FILE."""
    plans = Plans.load(Settings.from_env())
    if as_json:
        _print_json([asdict(plan) for plan in plans.values()])
        return
    columns = [each.name for each in fields(Plan)]
    rows = [["" if value is None else str(value) for value in asdict(plan).values()] for plan in plans.values()]
    for number, column in enumerate(columns):
        click.echo(f"{column:<18}" + "".join(f"{row[number]:<24}" for row in rows).rstrip())


def credits_text(millicredits: int | None) -> str:
    """Return an amount in credits, exactly."""
    if millicredits is None:
        return "not metered"
    return f"{Decimal(millicredits) / MILLICREDITS:f}"


def _amounts(statement: Statement) -> dict[str, str]:
    return {name: credits_text(getattr(statement, name)) for name in ("balance", "reserved", "available")}


def _row(day: Usage) -> dict[str, Any]:
    return {**asdict(day), "day": day.day.isoformat()}


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return table


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))
