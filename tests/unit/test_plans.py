"""Plans as data: what they allow, and what a file may say."""

import fakeredis
import pytest

from shared.accounts import Accounts
from shared.errors import ConfigurationError
from shared.plans import Plans, UnknownPlan
from shared.settings import Settings
from tests.apibench import ApiBench

STUDIO = """
[plans.studio]
weight = 9
max_waiting = 5
max_running = 3
priority = "low"
max_priority = "normal"
start_deadline_s = 600
run_deadline_s = 60
max_pixels = 65536
max_steps = 20
max_images = 2
rate_limit = "2/hour"
safety_off = false

[plans.free]
max_steps = 50
"""


@pytest.fixture
def plans_file(tmp_path):
    path = tmp_path / "plans.toml"
    path.write_text(STUDIO)
    return path


@pytest.fixture
def bench(tmp_path, plans_file):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path, plans_file=plans_file)
    made.credentials = made.parts.accounts.create_key("studio", plan="studio")
    made.headers = {"Authorization": f"Bearer {made.credentials.key}"}
    yield made
    made.parts.hub.close()


def submit(bench, **fields):
    return bench.post("/v1/jobs", {"prompt": "x", "width": 256, "height": 256, "num_inference_steps": 20, **fields})


def submission(bench, answer):
    assert answer.status_code == 202, answer.text
    return bench.backlog.read(answer.json["uid"], account=bench.credentials.account).submission


def test_a_file_adds_plans_and_changes_those_that_are_shipped(plans_file):
    shipped, plans = Plans.load(Settings()), Plans.load(Settings(plans_file=plans_file))

    assert (list(shipped), list(plans)) == (["free", "paid"], ["free", "paid", "studio"])
    assert (shipped["free"].max_steps, plans["free"].max_steps) == (None, 50)
    assert plans["free"].max_running == shipped["free"].max_running == 2
    assert plans["paid"] == shipped["paid"]
    assert plans["studio"].rate_limit == "2/hour"


def test_an_account_is_made_with_its_plans_bounds(bench):
    kept = bench.redis.hgetall(f"{{dr}}:a:{bench.credentials.account}")

    assert (kept["weight"], kept["max_waiting"], kept["max_running"]) == ("9", "5", "3")


@pytest.mark.parametrize(
    ("fields", "field", "most"),
    [
        ({"num_inference_steps": 21}, "num_inference_steps", "20"),
        ({"num_images": 3}, "num_images", "2"),
        ({"width": 264}, "width", "65536"),
        ({"priority": "high"}, "priority", "normal"),
        ({"start_deadline_s": 601}, "start_deadline_s", "600"),
        ({"run_deadline_s": 61}, "run_deadline_s", "60"),
    ],
)
def test_what_a_plan_does_not_allow_is_refused_by_field(bench, fields, field, most):
    answer = submit(bench, **fields)

    assert (answer.status_code, answer.json["code"], answer.json["field"]) == (400, "plan_limit", field)
    assert f"at most {most} with the plan 'studio'" in answer.text
    assert bench.job_count() == 0


def test_other_dialects_refuse_it_by_their_own_names(bench):
    call = {"prompt": "x", "width": 256, "height": 256, "steps": 21}

    answer = bench.post("/generate/sd", call)

    assert answer.status_code == 422, answer.text
    assert answer.json["detail"][0]["loc"] == ["body", "steps"]


def test_the_safety_checker_stays_on(bench):
    answer = submit(bench, safety="off")

    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


def test_a_job_that_names_none_gets_the_plans_priority_and_deadlines(bench):
    made = submission(bench, submit(bench))

    assert (made.priority, made.start_deadline_s, made.run_deadline_s) == ("low", 600, 60)


def test_a_job_may_ask_for_what_the_plan_allows(bench):
    made = submission(bench, submit(bench, priority="normal", start_deadline_s=5, run_deadline_s=6))

    assert (made.priority, made.start_deadline_s, made.run_deadline_s) == ("normal", 5, 6)


def test_a_plan_has_its_rate_limit(bench):
    codes = [bench.get("/v1/models").status_code for _ in range(3)]

    assert codes == [200, 200, 429]


def test_rate_limits_replaces_what_the_plan_says(plans_file):
    settings = Settings.from_env({"PLANS_FILE": str(plans_file), "RATE_LIMITS": "studio=5/second,other=1/day"})

    plans = Plans.load(settings)

    assert plans["studio"].rate_limit == "5/second"
    assert plans["free"].rate_limit == "10/second;600/minute"


def test_an_account_whose_plan_is_gone_may_read_and_not_submit(bench):
    bench.redis.hset(f"{{dr}}:a:{bench.credentials.account}", "plan", "bygone")

    assert bench.get("/v1/models").status_code == 200
    answer = submit(bench)
    assert (answer.status_code, answer.json["code"]) == (403, "unknown_plan")


def test_no_account_is_made_with_a_plan_that_is_not_there():
    redis = fakeredis.FakeRedis(decode_responses=True)

    with pytest.raises(UnknownPlan):
        Accounts(redis).create_key("alice", plan="bygone")
    assert redis.hgetall("{dr}:accounts") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[plans.a]\nmax_waiting = 1", r"\[plans.a\] needs max_running"),
        ("[plans.free]\nmax_runing = 1", "does not take max_runing"),
        ("[plans.free]\nmax_running = 0", "max_running must be at least 1"),
        ('[plans.free]\nmax_running = "2"', "max_running must be a whole number"),
        ('[plans.free]\npriority = "top"', "priority must be one of high, normal, low"),
        ('[plans.free]\npriority = "high"', "priority must not be above max_priority"),
        ('[plans.free]\nrate_limit = "often"', "must be limits such as"),
        ("[plans.free]\nsafety_off = 1", "safety_off must be true or false"),
        ("[plan.free]\nmax_running = 1", "and nothing else"),
        ("plans = 1", "and nothing else"),
        ("[plans]\nfree = 1", "does not take"),
        ("[", "plans.toml"),
    ],
)
def test_a_file_that_cannot_be_stops_the_start(plans_file, text, says):
    plans_file.write_text(text)

    with pytest.raises(ConfigurationError, match=says) as caught:
        Plans.load(Settings(plans_file=plans_file))
    assert caught.value.variable == "PLANS_FILE"
