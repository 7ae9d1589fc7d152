"""Batches over HTTP: how they come in, what is refused, and with which words."""

import json

import fakeredis
import pytest

from shared.accounts import Accounts
from shared.batch import MAX_LINES
from tests.apibench import ApiBench, png

JSONL = "application/jsonl"


@pytest.fixture
def bench(tmp_path):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path)
    yield made
    made.parts.hub.close()


def send(bench, body, content_type="application/json", query="", **headers):
    if not isinstance(body, bytes | str):
        body = json.dumps(body)
    return bench.client.post(
        f"/v1/batches{query}", data=body, content_type=content_type, headers={**bench.headers, **headers}
    )


def jsonl(*jobs):
    return "".join(json.dumps(job) + "\n" for job in jobs)


def accepted(answer):
    assert answer.status_code == 202, answer.text
    return answer.json


def prompts(bench, batch):
    rows = bench.parts.batches.all_rows(bench.parts.batches.read(batch["id"], account=bench.credentials.account))
    return [(row.job.submission if row.job else row.submission).spec.prompt for row in rows]


def submissions(bench, batch):
    rows = bench.parts.batches.all_rows(bench.parts.batches.read(batch["id"], account=bench.credentials.account))
    return [row.job.submission for row in rows]


def refused(answer, status=400):
    assert answer.status_code == status, answer.text
    return answer.json


def faults(answer):
    return [(fault["line"], fault["field"], fault["code"]) for fault in refused(answer)["errors"]]


def nothing_is_there(bench):
    left = {
        key for key in bench.redis.keys("{dr}:*") if key.split(":")[1] in {"j", "s", "b", "bl", "bu", "bx", "feeding"}
    }
    return not left and not list((bench.settings.data_dir).rglob("*.png"))


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ([{"prompt": "one"}, {"prompt": "two"}], "application/json"),
        ({"jobs": [{"prompt": "one"}, {"prompt": "two"}]}, "application/json"),
        ({"matrix": {"prompt": ["one", "two"]}}, "application/json"),
        (jsonl({"prompt": "one"}, {"prompt": "two"}), JSONL),
        (jsonl({"prompt": "one"}, {"prompt": "two"}) + "\n\n", "application/x-ndjson"),
        ('{"prompt": "one"}\r\n{"prompt": "two"}', JSONL),
        ("prompt,seed\none,1\ntwo,\n", "text/csv"),
        ("\ufeffprompt\r\none\r\ntwo\r\n", "text/csv; charset=utf-8"),
    ],
)
def test_every_form_gives_the_jobs_in_their_order(bench, body, content_type):
    answer = send(bench, body, content_type)

    batch = accepted(answer)
    assert prompts(bench, batch) == ["one", "two"]
    assert (batch["status"], batch["total"], batch["counts"]["queued"]) == ("running", 2, 2)
    assert answer.headers["Location"] == batch["links"]["self"] == f"http://localhost/v1/batches/{batch['id']}"
    assert bench.get(f"/v1/batches/{batch['id']}").json == batch


def test_a_matrix_is_expanded_with_its_last_field_first(bench):
    matrix = {"prompt": ["a", "b"], "seed": [1, 2], "num_inference_steps": [5, 9]}

    found = submissions(bench, accepted(send(bench, {"defaults": {"width": 128}, "matrix": matrix})))

    assert [(s.spec.prompt, s.spec.seed, s.spec.num_inference_steps) for s in found] == [
        (prompt, seed, steps) for prompt in "ab" for seed in (1, 2) for steps in (5, 9)
    ]
    assert {s.spec.width for s in found} == {128}


def test_csv_reads_numbers_lists_and_flags_as_json_and_leaves_text_alone(bench):
    rows = 'prompt,seed,num_images,track_id,tomesd\n"two, with\na break","[1, 2]",2,7,true\n12,,,order-1,\n'

    first, second = submissions(bench, accepted(send(bench, rows, "text/csv")))

    assert first.spec.prompt == "two, with\na break"
    assert (first.spec.seed, first.spec.num_images, first.spec.tomesd, first.track_id) == ((1, 2), 2, True, 7)
    assert (second.spec.prompt, second.spec.num_images, second.track_id) == ("12", 1, "order-1")


def test_its_jobs_have_low_priority_unless_somebody_says_otherwise(bench):
    jobs = [{"prompt": "a"}, {"prompt": "b", "priority": "high"}, {"prompt": "c", "priority": None}]

    usual = accepted(send(bench, jobs))
    asked = accepted(send(bench, jobs, query="?priority=normal"))
    inside = accepted(send(bench, {"priority": "normal", "jobs": jobs}))

    assert [s.priority for s in submissions(bench, usual)] == ["low", "high", "low"]
    assert [s.priority for s in submissions(bench, asked)] == ["normal", "high", "normal"]
    assert [s.priority for s in submissions(bench, inside)] == ["normal", "high", "normal"]


@pytest.mark.parametrize("member", ["name", "priority", "budget", "webhook_url", "archive", "matrix", "defaults"])
def test_null_means_that_a_member_is_left_out(bench, member):
    jobs = [{"prompt": "a"}]

    before = accepted(send(bench, {member: None, "jobs": jobs}))
    behind = accepted(send(bench, {"jobs": jobs, member: None}))

    usual = accepted(send(bench, {"jobs": jobs}))
    for batch in (before, behind):
        assert [s.priority for s in submissions(bench, batch)] == ["low"]
        assert {k: v for k, v in batch.items() if k in {"name", "budget", "price", "archive"}} == {
            k: v for k, v in usual.items() if k in {"name", "budget", "price", "archive"}
        }


def test_null_leaves_what_the_query_says(bench):
    body = {"name": None, "priority": None, "defaults": {"priority": None, "width": None}, "jobs": [{"prompt": "a"}]}

    batch = accepted(send(bench, body, query="?name=night&priority=high"))

    assert (batch["name"], submissions(bench, batch)[0].priority) == ("night", "high")


def test_null_in_place_of_jobs_or_a_matrix_leaves_the_other(bench):
    matrix = {"prompt": ["a", "b"]}

    assert accepted(send(bench, {"jobs": None, "matrix": matrix}))["total"] == 2
    assert accepted(send(bench, {"matrix": matrix, "jobs": None}))["total"] == 2
    neither = refused(send(bench, {"matrix": None, "jobs": None}))
    assert (neither["code"], neither["errors"][0]["field"]) == ("missing_field", "jobs")
    unknown = refused(send(bench, {"what": None, "jobs": [{"prompt": "a"}]}))
    assert (unknown["code"], unknown["errors"][0]["field"]) == ("unknown_field", "what")


def test_one_bad_line_and_nothing_is_taken(bench):
    body = [{"prompt": "a", "image": "data:image/png;base64,"}, *[{"prompt": "b"}] * 600, {"prompt": "c", "what": 1}]
    body[0]["image"] += __import__("base64").b64encode(png()).decode()

    answer = send(bench, body)

    assert faults(answer) == [(602, "what", "unknown_field")]
    assert refused(answer)["code"] == "invalid_batch"
    assert nothing_is_there(bench)


def test_every_fault_is_told_with_line_and_field(bench):
    body = jsonl({"prompt": "fine"}, {"seed": 1}, {"prompt": "x", "width": 65, "height": 4096}) + "no json\n\n[1]\n"
    body += jsonl(
        {"prompt": "x", "model": "nowhere"}, {"prompt": " "}, {"prompt": "x", "webhook_url": "http://10.0.0.1/"}
    )
    body += json.dumps({"prompt": "x", "image": "bm90IGFuIGltYWdl"})

    answer = send(bench, body, JSONL)

    assert faults(answer) == [
        (2, "prompt", "missing_field"),
        (3, "width", "invalid_value"),
        (3, "height", "invalid_value"),
        (4, "", "malformed_body"),
        (5, "", "malformed_body"),
        (6, "", "malformed_body"),
        (7, "model", "invalid_value"),
        (8, "prompt", "missing_field"),
        (9, "webhook_url", "outbound_refused"),
        (10, "image", "invalid_value"),
    ]
    assert refused(answer)["error_count"] == 10
    assert refused(answer)["detail"] == "10 faults in 10 lines; nothing of the batch was taken."


def test_csv_faults_count_from_the_row_below_the_header(bench):
    answer = send(bench, "prompt,width\na,64\nb,65\nc\nd,wide\n", "text/csv")

    assert faults(answer) == [
        (2, "width", "invalid_value"),
        (3, "", "malformed_body"),
        (4, "width", "invalid_value"),
    ]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code", "word"),
    [
        (b"", "application/json", 400, "malformed_body", "JSON list of jobs"),
        (b"", JSONL, 400, "malformed_body", "empty"),
        (b"\n\n", JSONL, 400, "malformed_body", "empty"),
        (b"", "text/csv", 400, "malformed_body", "empty"),
        (b"prompt\n", "text/csv", 400, "malformed_body", "empty"),
        (b"[]", "application/json", 400, "malformed_body", "empty"),
        (b'{"jobs": []}', "application/json", 400, "malformed_body", "empty"),
        (b"{}", "application/json", 400, "missing_field", "matrix"),
        (b'"x"', "application/json", 400, "malformed_body", "list of jobs"),
        (b'[{"prompt": "x"}', "application/json", 400, "malformed_body", "`]`"),
        (b'[{"prompt": "x"}] x', "application/json", 400, "malformed_body", "behind its end"),
        (b'[{"prompt": "x"}, {"prompt": NaN}]', "application/json", 400, "malformed_body", "NaN"),
        (b'[{"prompt": "x"}, {"prompt": \xff}]', "application/json", 400, "malformed_body", "UTF-8"),
        (b'{"jobs": [{"prompt": "x"}], "defaults": {}}', "application/json", 400, "invalid_value", "before `jobs`"),
        (b'{"jobs": 1}', "application/json", 400, "invalid_value", "list of jobs"),
        (
            b'{"webhook_url": "http://10.0.0.1/", "jobs": [{"prompt": "x"}]}',
            "application/json",
            400,
            "outbound_refused",
            "webhook_url",
        ),
        (b'{"jobs": [{"prompt": "x"}], "colour": 1}', "application/json", 400, "unknown_field", "colour"),
        (b'{"matrix": {"prompt": []}}', "application/json", 400, "invalid_value", "matrix.prompt"),
        (b'{"matrix": {"prompt": ["x"]}, "jobs": []}', "application/json", 400, "invalid_value", "together"),
        (b'{"jobs": [], "jobs": []}', "application/json", 400, "invalid_value", "twice"),
        (b'{"jobs": 1}', "application/json", 400, "invalid_value", "one list"),
        (b"prompt,colour\nx,red\n", "text/csv", 400, "unknown_field", "colour"),
        (b"prompt,prompt\nx,y\n", "text/csv", 400, "unknown_field", "twice"),
        (b'prompt\n"x\n', "text/csv", 400, "malformed_body", "CSV"),
        (b"prompt\n\xff\n", "text/csv", 400, "malformed_body", "line 2 of the file"),
        (b"x", "text/plain", 415, "unsupported_media_type", "application/jsonl"),
        (b"x", "multipart/form-data", 415, "unsupported_media_type", "application/jsonl"),
    ],
)
def test_what_is_no_batch_is_told_so(bench, body, content_type, status, code, word):
    problem = refused(send(bench, body, content_type), status)

    assert problem["code"] == code
    assert word in problem["detail"]
    assert nothing_is_there(bench)


def test_a_line_that_is_too_long_is_told_and_the_others_are_read(bench):
    long = json.dumps({"prompt": "x" * (4 * 1024 * 1024)})

    answer = send(bench, f'{{"prompt": "a"}}\n{long}\n{{"prompt": "b", "seed": -1}}\n', JSONL)

    assert faults(answer) == [(2, "", "malformed_body"), (3, "seed", "invalid_value")]
    assert "longer than 4,194,304 bytes" in answer.json["errors"][0]["detail"]


def test_a_body_beyond_the_limit_leaves_nothing(tmp_path):
    bench = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path, max_body_bytes=100_000)
    body = jsonl(*[{"prompt": f"number {number}"} for number in range(5000)])

    answer = send(bench, body, JSONL)

    assert refused(answer, 413)["code"] == "body_too_large"
    assert nothing_is_there(bench)
    bench.parts.hub.close()


def test_more_lines_than_a_batch_may_have(bench, monkeypatch):
    monkeypatch.setattr("api.batch_intake.MAX_LINES", 3)

    assert faults(send(bench, jsonl(*[{"prompt": "x"}] * 9), JSONL)) == [(4, "", "malformed_body")]
    assert MAX_LINES == 100_000
    assert "combinations" in refused(send(bench, {"matrix": {"seed": [1] * 400, "width": [64] * 400}}))["detail"]


def test_a_dry_run_tells_everything_and_takes_nothing(bench):
    jobs = [{"prompt": "a"}, {"prompt": "b", "width": 65}, {"prompt": "c", "num_images": 2}]

    bad = send(bench, jobs, query="?dry_run=1").json
    good = send(bench, jobs[::2], query="?dry_run=true").json
    dear = send(bench, jobs[::2], query="?dry_run=1&budget=449").json

    assert (bad["valid"], bad["count"], bad["error_count"]) == (False, 3, 1)
    assert (bad["errors"][0]["line"], bad["errors"][0]["field"]) == (2, "width")
    assert (good["valid"], good["count"], good["price"], good["errors"]) == (True, 2, 450, [])
    assert (dear["valid"], dear["price"]) == (False, 450)
    assert nothing_is_there(bench)


def test_a_batch_beyond_its_budget_is_refused(bench):
    problem = refused(send(bench, [{"prompt": "x"}] * 3, query="?budget=449"), 402)

    assert (problem["code"], problem["detail"]) == (
        "budget_exceeded",
        "The batch costs 450 millicredits, its budget is 449.",
    )
    assert nothing_is_there(bench)
    assert accepted(send(bench, {"budget": 450, "jobs": [{"prompt": "x"}] * 3}))["budget"] == 450


def test_all_of_it_is_reserved_at_once(bench):
    bench.headers = {"Authorization": f"Bearer {Accounts(bench.redis).create_key('rich', credits_=1).key}"}

    assert refused(send(bench, [{"prompt": "x"}] * 7), 402)["code"] == "insufficient_credits"
    assert nothing_is_there(bench)
    accepted(send(bench, [{"prompt": "x"}] * 6))
    assert refused(send(bench, [{"prompt": "x"}]), 402)["code"] == "insufficient_credits"


def test_a_plans_bound_on_waiting_jobs_holds_for_batches(bench):
    bench.headers = {"Authorization": f"Bearer {Accounts(bench.redis).create_key('free', plan='free').key}"}

    assert refused(send(bench, [{"prompt": "x"}] * 101), 429)["code"] == "too_many_waiting"
    accepted(send(bench, [{"prompt": "x"}] * 100))
    assert refused(send(bench, [{"prompt": "x"}]), 429)["code"] == "too_many_waiting"


def test_an_idempotency_key_gives_the_same_batch_once(bench):
    jobs = [{"prompt": "x"}] * 3

    first = send(bench, jobs, **{"Idempotency-Key": "k"})
    second = send(bench, jobs, **{"Idempotency-Key": "k"})
    other = send(bench, jobs[:2], **{"Idempotency-Key": "k"})
    query = send(bench, jobs, query="?name=other", **{"Idempotency-Key": "k"})

    assert accepted(second)["id"] == accepted(first)["id"]
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert refused(other, 409)["code"] == refused(query, 409)["code"] == "idempotency_conflict"
    assert bench.job_count() == 3


def test_batches_are_listed_newest_first(bench):
    made = [accepted(send(bench, [{"prompt": "x"}], query=f"?name=number {n}"))["id"] for n in range(5)]

    first = bench.get("/v1/batches?limit=3").json
    second = bench.get(f"/v1/batches?limit=3&cursor={first['next_cursor']}").json

    assert [batch["id"] for batch in first["data"] + second["data"]] == made[::-1]
    assert (first["data"][0]["name"], second["next_cursor"]) == ("number 4", None)
    assert bench.get("/v1/batches?limit=0").status_code == 400


def test_another_accounts_batch_is_not_there(bench):
    batch = accepted(send(bench, [{"prompt": "x"}]))
    stranger = bench.key_of("mallory")

    answer = bench.client.get(f"/v1/batches/{batch['id']}", headers=stranger)

    assert refused(answer, 404)["code"] == "batch_not_found"
    assert bench.client.get("/v1/batches", headers=stranger).json["data"] == []
    assert bench.client.get(f"/v1/batches/{batch['id']}").status_code == 401
