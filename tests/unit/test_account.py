"""`GET /v1/account`: plan, credits, limits and usage."""

import fakeredis
import pytest

from shared.api_keys import Scope
from shared.errors import InsufficientCredits
from shared.job import Status
from tests.apibench import ApiBench

#: 512 x 512 at 30 steps.
PRICE = 150


@pytest.fixture
def bench(tmp_path):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path)
    yield made
    made.parts.hub.close()


def test_an_account_without_credits_is_not_metered(bench):
    found = bench.get("/v1/account").json

    assert (found["name"], found["plan"], found["pool"], found["metered"]) == ("alice", "paid", "default", False)
    assert (found["balance"], found["reserved"], found["available"]) == (None, None, None)
    assert len(found["usage"]) == 7
    assert all(day["jobs"] == 0 for day in found["usage"])


def test_credits_from_submit_to_success(bench):
    bench.parts.books.grant(bench.credentials.account, 1000)
    bench.submit(num_images=2)
    reserved = bench.get("/v1/account").json
    bench.draw()
    settled = bench.get("/v1/account?days=1").json

    assert (reserved["balance"], reserved["reserved"], reserved["available"]) == (1000, 300, 700)
    assert (settled["balance"], settled["reserved"], settled["available"]) == (700, 0, 700)
    (today,) = settled["usage"]
    del today["day"]
    assert today == {
        "jobs": 1,
        "succeeded": 1,
        "images": 2,
        "steps": 60,
        "millicredits": 2 * PRICE,
        "granted": 1000,
    }


@pytest.mark.parametrize("how", ["fail", "cancel"])
def test_what_gave_no_picture_is_refunded(bench, how):
    bench.parts.books.grant(bench.credentials.account, 1000)
    uid = bench.submit()
    if how == "fail":
        bench.draw(Status.FAILED, {"code": "x", "message": "x", "retryable": False})
    else:
        bench.post(f"/v1/jobs/{uid}/cancel")

    found = bench.get("/v1/account?days=1").json

    assert (found["balance"], found["reserved"]) == (1000, 0)
    (today,) = found["usage"]
    assert (today["jobs"], today["succeeded"], today["images"], today["millicredits"]) == (1, 0, 0, 0)


def test_nothing_is_accepted_that_credits_do_not_cover(bench):
    bench.parts.books.grant(bench.credentials.account, PRICE - 1)

    answer = bench.post("/v1/jobs", {"prompt": "x"})

    assert (answer.status_code, answer.json["code"]) == (402, InsufficientCredits.code)
    assert bench.get("/v1/account").json["available"] == PRICE - 1


def test_it_tells_the_plans_limits(bench):
    free = bench.parts.accounts.create_key("bob", plan="free")

    limits = bench.client.get("/v1/account", headers={"Authorization": f"Bearer {free.key}"}).json["limits"]

    assert limits == {
        "max_waiting": 100,
        "max_running": 2,
        "priority": "normal",
        "max_priority": "normal",
        "start_deadline_s": None,
        "run_deadline_s": None,
        "max_pixels": None,
        "max_steps": None,
        "max_images": None,
        "rate_limit": "10/second+600/minute",
        "safety_off": False,
    }


@pytest.mark.parametrize("days", ["0", "367", "x"])
def test_days_has_bounds(bench, days):
    answer = bench.get(f"/v1/account?days={days}")

    assert (answer.status_code, answer.json["field"]) == (400, "days")


def test_it_needs_the_scope_read(bench):
    made = bench.parts.accounts.create_key("alice", scopes=[Scope.SUBMIT])

    answer = bench.client.get("/v1/account", headers={"Authorization": f"Bearer {made.key}"})

    assert (answer.status_code, answer.json["code"]) == (403, "missing_scope")
