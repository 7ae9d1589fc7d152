"""Zips of batches that have ended: whole, in parts, after a crash, over outages, once more after a retry."""

import csv
import io
import tracemalloc
import zipfile
from contextlib import suppress

import pytest

from shared.backlog import Backlog, Batches
from shared.backlog.archives import Archives
from shared.batch import ArchivePart
from shared.celery_app import SilentBell
from shared.dialects import Links
from shared.errors import StorageUnavailable
from shared.job import Status
from tests.apibench import ApiBench
from worker.archiver import Archiver
from worker.retention import Retention

ERROR = {"code": "worker_lost", "message": "Lost.", "retryable": True}
PART = ArchivePart(key="archives/a/1/0001.zip", first=1, last=2, images=2, size=9)


class Bench(ApiBench):
    """The API, and couriers that write archives."""

    def archives(self):
        return Archives(self.redis, lease_s=60)

    def archiver(self, **options):
        storage = self.parts.storage
        links = Links(base_url="http://localhost", storage=storage, ttl_s=60)
        batches = Batches(self.redis, SilentBell(), Backlog(self.redis, SilentBell()))
        return Archiver(self.archives(), batches, links, **options)

    def ended(self, *jobs, query=""):
        """Submit a batch and draw it; a line whose prompt says so fails. Return its path."""
        answer = self.post(f"/v1/batches{query}", [{"seed": 7, "width": 64, "height": 64, **job} for job in jobs])
        assert answer.status_code == 202, answer.text
        for job in jobs:
            self.draw(*((Status.FAILED, ERROR) if job["prompt"] == "fail" else ()))
        return f"/v1/batches/{answer.json['id']}"

    def write(self, **options):
        """Let a courier write until nothing is due; return how often there was something."""
        archiver, rounds = self.archiver(**options), 0
        while archiver.round():
            rounds += 1
        return rounds

    def archive(self, path):
        return self.get(path).json["archive"]

    def open(self, part):
        """Follow a part's link as its reader does."""
        with self.client.get(part["url"].removeprefix("http://localhost")) as answer:
            assert (answer.status_code, answer.mimetype) == (200, "application/zip"), answer.text
            assert len(answer.data) == part["bytes"]
        return zipfile.ZipFile(io.BytesIO(answer.data))


@pytest.fixture
def bench(valkey, tmp_path):
    made = Bench(valkey, tmp_path)
    yield made
    made.parts.hub.close()


def table(pack):
    return list(csv.DictReader(io.StringIO(pack.read("results.csv").decode(), newline="")))


def test_images_and_what_became_of_every_line(bench):
    path = bench.ended({"prompt": "=a"}, {"prompt": "fail"}, {"prompt": "c", "num_images": 2})
    assert bench.archive(path) is None

    bench.archiver().round()

    (part,) = bench.archive(path)
    assert (part["first_line"], part["last_line"], part["images"]) == (1, 3, 3)
    pack = bench.open(part)
    assert pack.testzip() is None
    assert pack.namelist() == ["1.png", "3-0.png", "3-1.png", "results.csv"]
    assert pack.read("1.png").startswith(b"\x89PNG")
    assert [(row["line"], row["status"], row["prompt"], row["files"], row["error_code"]) for row in table(pack)] == [
        ("1", "succeeded", "=a", "1.png", ""),
        ("2", "failed", "fail", "", "worker_lost"),
        ("3", "succeeded", "c", "3-0.png 3-1.png", ""),
    ]
    assert bench.archives().due(10) == []
    assert bench.get("/v1/batches").json["data"][0]["archive"][0]["bytes"] == part["bytes"]


def test_part_of_a_file_may_be_asked_for(bench):
    path = bench.ended({"prompt": "a"})
    bench.archiver().round()
    (part,) = bench.archive(path)
    url = part["url"].removeprefix("http://localhost")

    with bench.client.get(url, headers={"Range": "bytes=4-"}) as rest:
        assert len(rest.data) == part["bytes"] - 4
    assert rest.status_code == 206
    assert rest.headers["Content-Disposition"] == f"attachment; filename=batch-{path.rpartition('/')[2]}-1-1.zip"
    assert bench.client.get(url.replace("signature=", "signature=x")).json["code"] == "link_invalid"
    bench.parts.storage.delete_prefix("archives")
    assert bench.client.get(url).status_code == 404


def test_a_large_batch_has_several(bench):
    path = bench.ended(*({"prompt": str(n)} for n in range(5)))

    assert bench.write(part_bytes=300) == 3

    parts = bench.archive(path)
    spans = [(part["first_line"], part["last_line"], part["images"]) for part in parts]
    assert spans == [(1, 2, 2), (3, 4, 2), (5, 5, 1)]
    for (first, last, _), part in zip(spans, parts, strict=True):
        assert [row["line"] for row in table(bench.open(part))] == [str(n) for n in range(first, last + 1)]


def test_a_large_one_keeps_no_other_waiting(bench):
    large = bench.ended(*({"prompt": str(n)} for n in range(5)))
    small = bench.ended({"prompt": "x"})
    archiver = bench.archiver(part_bytes=300)

    archiver.round()

    assert bench.archive(large) is None
    assert len(bench.archive(small)) == 1


def test_another_goes_on_where_one_died(bench, monkeypatch):
    path = bench.ended(*({"prompt": str(n)} for n in range(5)))
    put, stored = bench.parts.storage.put_file, []

    def dying(key, file, **options):
        stored.append(key)
        if len(stored) == 2:
            raise KeyboardInterrupt
        put(key, file, **options)

    monkeypatch.setattr(bench.parts.storage, "put_file", dying)
    with suppress(KeyboardInterrupt):
        bench.write(part_bytes=300)
    assert bench.archive(path) is None
    assert bench.archiver(part_bytes=300).round() == 0  # the lease has not run out
    bench.redis.zadd("{dr}:bz", {path.rpartition("/")[2]: 1})

    bench.write(part_bytes=300)

    assert len(bench.archive(path)) == 3
    assert len(stored) == 4
    assert stored[1] == stored[2]


def test_what_the_storage_does_not_take_is_done_later(bench, monkeypatch):
    path = bench.ended({"prompt": "a"})

    def away(*_, **__):
        raise StorageUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(bench.parts.storage, "put_file", away)
        bench.archiver().round()
    assert bench.archiver().round() == 0
    bench.redis.zadd("{dr}:bz", {path.rpartition("/")[2]: 1})
    bench.archiver().round()

    assert len(bench.archive(path)) == 1


def test_an_image_that_is_gone_is_left_out(bench):
    path = bench.ended({"prompt": "a"}, {"prompt": "b"})
    first = bench.get(f"{path}/jobs").json["data"][0]["uid"]
    bench.delete(f"/v1/jobs/{first}")

    bench.archiver().round()

    (part,) = bench.archive(path)
    assert bench.open(part).namelist() == ["2.png", "results.csv"]
    assert table(bench.open(part))[0]["status"] == ""


def test_after_a_retry_there_is_a_new_one(bench):
    path = bench.ended({"prompt": "a"}, {"prompt": "fail"})
    bench.archiver().round()
    first = bench.archive(path)
    bench.post(f"{path}/retry")
    assert bench.archive(path) is None
    assert bench.archiver().round() == 0
    bench.draw()

    bench.archiver().round()

    (part,) = bench.archive(path)
    assert bench.open(part).namelist() == ["1.png", "2.png", "results.csv"]
    assert bench.client.get(first[0]["url"].removeprefix("http://localhost")).status_code == 404


def test_a_retry_stops_who_writes(bench):
    path = bench.ended({"prompt": "a"}, {"prompt": "fail"})
    number = int(path.rpartition("/")[2])
    work = bench.archives().claim(number)

    bench.post(f"{path}/retry")

    assert not bench.archives().hold(work)
    assert not bench.archives().add(work, PART, is_last=True)
    assert bench.archive(path) is None
    assert bench.archives().due(10) == []


def test_what_was_drawn_of_a_cancelled_batch(bench):
    answer = bench.post("/v1/batches", [{"prompt": "a"}, {"prompt": "b"}])
    bench.draw()
    path = f"/v1/batches/{answer.json['id']}"
    bench.post(f"{path}/cancel")

    bench.archiver().round()

    assert bench.open(bench.archive(path)[0]).namelist() == ["1.png", "results.csv"]


@pytest.mark.parametrize("query", ["?archive=0", "?archive=false"])
def test_it_may_be_left_out(bench, query):
    path = bench.ended({"prompt": "a"}, query=query)

    assert bench.archiver().round() == 0
    assert bench.archive(path) is None


def test_it_goes_with_its_batch(bench):
    path = bench.ended({"prompt": "a"})
    bench.archiver().round()
    assert len(list((bench.settings.data_dir / "storage" / "archives").rglob("*.zip"))) == 1
    backlog = Backlog(bench.redis, SilentBell())
    batches = Batches(bench.redis, SilentBell(), backlog)

    retention = Retention(backlog, batches, bench.parts.storage, retention_s=-5, tombstone_s=60)
    assert retention.round_of_batches() == 1

    assert bench.get(path).status_code == 404
    assert list((bench.settings.data_dir / "storage" / "archives").rglob("*.zip")) == []
    assert bench.redis.keys("{dr}:b[az]*") == []


def test_memory_holds_one_image_and_not_the_archive(bench, monkeypatch):
    image_bytes = 1024 * 1024
    monkeypatch.setattr("tests.apibench.png", lambda: b"\x89PNG" + bytes(image_bytes))
    path = bench.ended(*({"prompt": str(n)} for n in range(40)))
    tracemalloc.start()
    try:
        bench.archiver().round()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert bench.archive(path)[0]["bytes"] > 40 * image_bytes
    assert peak < 12 * image_bytes


def test_calls_whose_reply_was_lost(any_redis, tmp_path):
    bench = Bench(any_redis, tmp_path)
    number = int(bench.ended({"prompt": "a"}, {"prompt": "b"}).rpartition("/")[2])
    archives = bench.archives()
    script = archives._script
    archives._script = lambda redis, *args: (script(redis, *args), script(redis, *args))[1]

    work = archives.claim(number)
    assert (work.batch, work.outcome, work.parts, work.last) == (number, 1, 0, None)
    assert bench.archives().claim(number) is None
    assert archives.hold(work)
    assert archives.add(work, PART, is_last=False)
    assert bench.redis.llen(f"{{dr}}:ba:{number}") == 1
    archives.put_off(work, delay_s=-1)
    other = bench.archives().claim(number)
    assert (other.parts, other.last) == (1, PART)
    assert not archives.hold(work)
    assert archives.add(other, PART, is_last=True)
    assert bench.redis.llen(f"{{dr}}:ba:{number}") == 1
    bench.parts.hub.close()
