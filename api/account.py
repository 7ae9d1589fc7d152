"""The native API's view of the caller's own account, `/v1/account`."""

from dataclasses import asdict
from typing import Any, Final

from flask import Response
from marshmallow import Schema, fields, validate

from api.auth import current_account, require_account
from api.fields import QueryNumber
from api.responses import PRIVATE, json_response
from api.schemas import Request
from api.services import services
from api.spec import StrictBlueprint
from shared.books import Statement, Usage
from shared.plans import Plan

USUAL_DAYS: Final = 7
MOST_DAYS: Final = 366

account = StrictBlueprint("account", __name__, url_prefix="/v1", description="What you may do, have and used.")
account.before_request(require_account)


def _whole(description: str, *, null: bool = False) -> fields.Integer:
    return fields.Integer(required=True, allow_none=null, metadata={"description": description})


def _text(description: str, **metadata: Any) -> fields.String:
    return fields.String(required=True, metadata={"description": description, **metadata})


class AccountQuery(Request):
    """What `GET /v1/account` takes."""

    days = QueryNumber(
        load_default=USUAL_DAYS,
        validate=validate.Range(min=1, max=MOST_DAYS, error=f"must lie between 1 and {MOST_DAYS}"),
        metadata={"description": "Days of usage, today among them."},
    )


class LimitsDocument(Schema):
    """What the plan allows. Null: no bound but the general one."""

    max_waiting = _whole("Most jobs that wait at once.")
    max_running = _whole("Most jobs that are drawn at once.")
    priority = _text("Class of jobs that name none.")
    max_priority = _text("Highest class that a job may name.")
    start_deadline_s = _whole("Longest start deadline, and what a job gets that names none.", null=True)
    run_deadline_s = _whole("Longest run deadline, and what a job gets that names none.", null=True)
    max_pixels = _whole("Most pixels of an image, width times height.", null=True)
    max_steps = _whole("Most `num_inference_steps`.", null=True)
    max_images = _whole("Most images of a job.", null=True)
    rate_limit = _text("Requests of one key; empty: any number.")
    safety_off = fields.Boolean(required=True, metadata={"description": "Whether `safety` may be `off`."})


class UsageDocument(Schema):
    """What was used on one day."""

    day = _text("UTC.", format="date")
    jobs = _whole("Jobs that ended, however; a retried one counts each time.")
    succeeded = _whole("Those of them that succeeded.")
    images = _whole("Images delivered.")
    steps = _whole("Denoising steps, of all images together.")
    millicredits = _whole("What was settled.")
    granted = _whole("Millicredits that were added.")


class AccountDocument(Schema):
    """An account. Amounts are millicredits; null where it is not metered."""

    name = _text("Its name.")
    plan = _text("Its plan.")
    pool = _text("The workers that serve it.")
    metered = fields.Boolean(required=True, metadata={"description": "Whether jobs cost credits."})
    balance = _whole("Granted less settled.", null=True)
    reserved = _whole("What the jobs cost that have not ended.", null=True)
    available = _whole("`balance` less `reserved`: what new jobs may cost.", null=True)
    waiting = _whole("Jobs that wait.")
    running = _whole("Jobs that are drawn.")
    limits = fields.Nested(LimitsDocument, required=True)
    usage = fields.List(fields.Nested(UsageDocument), required=True, metadata={"description": "Today last."})


@account.route("/account", methods=["GET"])
@account.arguments(AccountQuery, location="query")
@account.response(200, AccountDocument)
@account.problems(400)
def read_account(query: dict[str, Any]) -> Response:
    """Read your account: its plan and limits, its credits, and what it used of late."""
    books, caller = services().books, current_account()
    plan = services().plans.of(caller.plan)
    body = render(books.statement(caller.id), plan, books.usage(caller.id, days=query["days"]))
    return json_response(body, headers=PRIVATE)


def render(statement: Statement, plan: Plan, usage: list[Usage]) -> dict[str, Any]:
    """Return an account as the API tells it. What the queue goes by comes from the account, the rest from its plan."""
    told = asdict(statement)
    limits = {name: value for name, value in asdict(plan).items() if name in LimitsDocument().fields}
    limits |= {name: told[name] for name in ("max_waiting", "max_running")}
    limits["rate_limit"] = plan.rate_limit.replace(";", "+")
    return {
        **{name: told[name] for name in ("name", "plan", "pool")},
        "metered": statement.balance is not None,
        **{name: told[name] for name in ("balance", "reserved", "available", "waiting", "running")},
        "limits": limits,
        "usage": [usage_row(day) for day in usage],
    }


def usage_row(usage: Usage) -> dict[str, Any]:
    """Return a day's usage as JSON has it."""
    return {**asdict(usage), "day": usage.day.isoformat()}
