"""A batch's manifest over HTTP: in both forms, in input order, while it runs and afterwards."""

import csv
import io
import json

import fakeredis
import pytest

from shared.backlog.batches import LINES_AT_ONCE
from shared.errors import BacklogUnavailable
from shared.job import Status
from tests.apibench import ApiBench

ERROR = {"code": "worker_lost", "message": 'Lost, "twice".', "retryable": True}


@pytest.fixture
def bench(tmp_path):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path)
    yield made
    made.parts.hub.close()


def submit(bench, jobs):
    answer = bench.post("/v1/batches", jobs)
    assert answer.status_code == 202, answer.text
    return answer.json["links"]["results"].removeprefix("http://localhost")


def jsonl(answer):
    assert (answer.status_code, answer.mimetype) == (200, "application/jsonl"), answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def table(answer):
    assert (answer.status_code, answer.mimetype) == (200, "text/csv"), answer.text
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def test_it_can_be_read_while_the_batch_runs(bench, monkeypatch):
    monkeypatch.setattr("shared.backlog.batches.QUEUED_AT_MOST", 3)
    path = submit(bench, [{"prompt": f"ünï {n}", "track_id": n, "num_images": 1 + n % 2} for n in range(5)])
    bench.draw()
    bench.draw(Status.FAILED, ERROR)
    bench.begin()

    found = jsonl(bench.get(path))

    assert [(each["line"], each["status"], each["track_id"], each["prompt"]) for each in found] == [
        (1, "succeeded", 0, "ünï 0"),
        (2, "failed", 1, "ünï 1"),
        (3, "running", 2, "ünï 2"),
        (4, "queued", 3, "ünï 3"),
        (5, "queued", 4, "ünï 4"),
    ]
    first, second, third, _, fifth = found
    job = bench.get(f"/v1/jobs/{first['uid']}").json
    assert (first["created_at"], first["finished_at"]) == (job["created_at"], job["finished_at"])
    assert {name: first["outputs"][0][name] for name in ("seed", "width", "content_type")} == {
        "seed": job["outputs"][0]["seed"],
        "width": 64,
        "content_type": "image/png",
    }
    link = first["outputs"][0]["url"]
    assert bench.client.get(link[link.index("/media/") :]).data.startswith(b"\x89PNG")
    assert (first["error"], second["error"], second["outputs"]) == (None, ERROR, [])
    assert (third["finished_at"], fifth["uid"], fifth["created_at"]) == (None, None, None)


def test_csv_tells_the_same(bench):
    path = submit(bench, [{"prompt": 'a, "b"\nc', "seed": 7, "num_images": 2}, {"prompt": "=1+1", "track_id": "x"}])
    bench.draw()
    bench.draw(Status.FAILED, ERROR)

    first, second = table(bench.get(f"{path}?format=csv"))
    told = jsonl(bench.get(path))

    assert first["prompt"] == told[0]["prompt"] == 'a, "b"\nc'
    assert first["seeds"] == "7 8"
    assert len(first["urls"].split(" ")) == len(told[0]["outputs"]) == 2
    assert {name: second[name] for name in ("line", "status", "track_id", "prompt", "error_code", "error_message")} == {
        "line": "2",
        "status": "failed",
        "track_id": "x",
        "prompt": "=1+1",
        "error_code": "worker_lost",
        "error_message": 'Lost, "twice".',
    }
    assert (second["urls"], second["finished_at"]) == ("", told[1]["finished_at"])


@pytest.mark.parametrize(
    ("accept", "query", "mimetype"),
    [
        ("*/*", "", "application/jsonl"),
        ("text/csv", "", "text/csv"),
        ("text/csv;q=0.5, application/x-ndjson", "", "application/x-ndjson"),
        ("text/html, text/*;q=0.8", "", "text/csv"),
        ("text/html", "", "application/jsonl"),
        ("text/csv", "?format=jsonl", "application/jsonl"),
        ("application/jsonl", "?format=csv", "text/csv"),
    ],
)
def test_the_form_is_the_query_s_or_what_is_accepted(bench, accept, query, mimetype):
    path = submit(bench, [{"prompt": "x"}])

    answer = bench.get(path + query, Accept=accept)

    assert (answer.status_code, answer.mimetype) == (200, mimetype)
    suffix = "csv" if mimetype == "text/csv" else "jsonl"
    assert answer.headers["Content-Disposition"].endswith(f".{suffix}")
    assert bench.get(f"{path}?format=xml").status_code == 400


def test_more_lines_than_are_read_at_once_come_in_their_order(bench):
    count = 2 * LINES_AT_ONCE + 1
    path = submit(bench, [{"prompt": f"number {n}"} for n in range(count)])

    assert [each["prompt"] for each in jsonl(bench.get(path))] == [f"number {n}" for n in range(count)]


def test_it_is_read_as_it_is_sent(bench, monkeypatch):
    path = submit(bench, [{"prompt": "x"} for _ in range(2 * LINES_AT_ONCE)])
    reads, rows = [], type(bench.parts.batches).rows

    def noted(batches, batch, *, after, limit):
        reads.append(after)
        return rows(batches, batch, after=after, limit=limit)

    monkeypatch.setattr(type(bench.parts.batches), "rows", noted)
    pieces = iter(bench.client.get(path, headers=bench.headers, buffered=False).response)
    next(pieces)

    assert reads == [0]
    list(pieces)
    assert reads == [0, LINES_AT_ONCE]


@pytest.mark.parametrize(("cursor", "lines"), [(0, ["1", "2", "3"]), (2, ["3"]), (3, [])])
def test_it_is_taken_up_behind_a_line(bench, cursor, lines):
    path = submit(bench, [{"prompt": "x"}] * 3)
    bench.draw()

    assert [str(each["line"]) for each in jsonl(bench.get(f"{path}?cursor={cursor}"))] == lines
    assert [each["line"] for each in table(bench.get(f"{path}?cursor={cursor}&format=csv"))] == lines
    assert bench.get(f"{path}?cursor=-1").status_code == 400


def test_what_breaks_off_is_seen_to_have_broken_off(bench, monkeypatch):
    path = submit(bench, [{"prompt": "x"} for _ in range(LINES_AT_ONCE + 1)])
    rows = type(bench.parts.batches).rows

    def broken(batches, batch, *, after, limit):
        if after:
            raise BacklogUnavailable
        return rows(batches, batch, after=after, limit=limit)

    monkeypatch.setattr(type(bench.parts.batches), "rows", broken)
    pieces = iter(bench.client.get(path, headers=bench.headers, buffered=False).response)

    with pytest.raises(BacklogUnavailable):
        list(pieces)


def test_lines_whose_jobs_were_erased_stay(bench):
    path = submit(bench, [{"prompt": "x", "track_id": "t"}, {"prompt": "y"}])
    bench.draw()
    uid = jsonl(bench.get(path))[0]["uid"]
    bench.delete(f"/v1/jobs/{uid}")

    first, second = jsonl(bench.get(path))

    assert (first["line"], first["uid"], first["status"], first["outputs"]) == (1, uid, None, [])
    assert second["status"] == "queued"
    assert table(bench.get(f"{path}?format=csv"))[0]["status"] == ""


def test_anothers_is_not_there(bench):
    path = submit(bench, [{"prompt": "x"}])

    assert bench.client.get(path, headers=bench.key_of("mallory")).status_code == 404
