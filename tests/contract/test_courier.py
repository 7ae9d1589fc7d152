"""The courier with a real Valkey, a real receiver and the receiver's own library."""

import json
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_network

import pytest
from redis.exceptions import RedisError
from standardwebhooks import Webhook, WebhookVerificationError

from shared.accounts import Accounts
from shared.backlog import Backlog, Batches
from shared.batch import BatchLine, BatchOptions
from shared.celery_app import COURIER_QUEUE, SilentBell
from shared.deliveries import Deliveries
from shared.dialects import Links
from shared.errors import BacklogUnavailable, JobNotFound, NotFinished, StorageUnavailable
from shared.job import Artifact, Result, Status, Submission
from shared.outbox import MAX_ATTEMPTS, RETRY_DELAYS_S, Outbox
from shared.redis_client import connect
from shared.safe_http import SafeHttp
from shared.settings import Settings
from shared.spec import JobSpec
from shared.storage.disk import DiskStorage
from shared.webhook_secrets import UnknownAccount, WebhookSecrets
from tests.services import Reply, free_port, receiver, wait_until
from tests.services import valkey as valkey_service
from worker.courier import Courier, as_announced, build_courier
from worker.receivers import FAILURES_TO_OPEN, Receivers
from worker.ticker import RUNG_AT_ONCE, Ticker
from worker.verdicts import asked_pause_s

LOOPBACK = (ip_network("127.0.0.0/8"),)
NODE = "worker@host"


class Bench:
    """A courier between a backlog and a receiver."""

    def __init__(self, redis, server, tmp_path, *, allow=LOOPBACK):
        self.redis = redis
        self.server = server
        self.bell = SilentBell()
        self.now = 0.0
        self.backlog = Backlog(redis, self.bell)
        self.batches = Batches(redis, self.bell, self.backlog)
        self.outbox = Outbox(redis, lease_s=30)
        self.deliveries = Deliveries(redis, self.bell)
        self.accounts = Accounts(redis)
        self.credentials = self.accounts.create_key("alice")
        self.storage = DiskStorage(tmp_path, base_url="https://api.example", secret="a secret of tests")
        self.courier = Courier(
            outbox=self.outbox,
            backlog=self.backlog,
            batches=self.batches,
            accounts=self.accounts,
            links=Links(base_url="https://api.example", storage=self.storage, ttl_s=600),
            http=SafeHttp(allow=allow),
            receivers=Receivers(clock=lambda: self.now),
        )

    def run_job(self, status=Status.SUCCEEDED, *, url=None, **options) -> tuple[int, str]:
        """Submit a job and end it; return its uid and its outbox entry."""
        submission = Submission(
            spec=JobSpec(prompt="a circle", model="demo", seed=7),
            webhook_url=url or f"{self.server.url}/hook?a=1",
            **options,
        )
        receipt = self.backlog.submit(submission, account=self.credentials.account, pool="default")
        self.backlog.hello(NODE, "1", pool="default", models=["demo"])
        (lease,) = self.backlog.claim(NODE, max_jobs=1, max_images=1).leases
        self.backlog.finish(NODE, lease, status, self.result(receipt.handle, status))
        return receipt.uid, f"{receipt.uid}:1"

    def result(self, handle, status):
        if status is not Status.SUCCEEDED:
            return Result(error={"code": "out_of_memory", "message": "Too little memory.", "retryable": False})
        key = f"results/{handle}/1/0.png"
        self.storage.put(key, b"png", content_type="image/png")
        artifact = Artifact(key=key, seed=7, width=512, height=512, content_type="image/png", bytes=3)
        return Result(artifacts=(artifact,), timings={"generate": 1.5})

    def let_time_pass(self, entry):
        self.now += 3600
        assert self.redis.zadd("{dr}:ob", {entry: 1}, xx=True, ch=True) == 1

    def kept(self, entry):
        return self.redis.hgetall(f"{{dr}}:ob:{entry}")

    def is_due_later(self, entry):
        return self.redis.zscore("{dr}:ob", entry) is not None and self.outbox.due(10) == []


@pytest.fixture
def server():
    with receiver() as running:
        yield running


@pytest.fixture
def bench(valkey, server, tmp_path):
    return Bench(valkey, server, tmp_path)


def test_a_finished_jobs_webhook_is_delivered_and_verifies(bench):
    uid, entry = bench.run_job(track_id=42)
    assert bench.bell.due == [entry]

    bench.courier.deliver(entry)

    (request,) = bench.server.requests
    body = Webhook(bench.credentials.webhook_secret).verify(request.body, request.headers)
    assert request.path == "/hook?a=1"
    assert request.headers["Content-Type"] == "application/json"
    assert (body["uid"], body["status"], body["track_id"]) == (uid, "succeeded", 42)
    assert body["outputs"][0]["seed"] == 7
    assert body["outputs"][0]["url"].startswith("https://api.example/media/results/")
    assert body["timings"]["generate"] == 1.5
    assert body["error"] is None
    assert bench.redis.zcard("{dr}:ob") == 0


def test_a_failure_is_announced_as_well(bench):
    _, entry = bench.run_job(Status.FAILED)

    bench.courier.deliver(entry)

    body = json.loads(bench.server.requests[0].body)
    assert body["status"] == "failed"
    assert body["error"] == {"code": "out_of_memory", "message": "Too little memory.", "retryable": False}
    assert body["outputs"] == []


def test_a_webhook_is_delivered_once_however_often_it_is_rung_for(bench):
    _, entry = bench.run_job()

    threads = [threading.Thread(target=bench.courier.deliver, args=(entry,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bench.courier.deliver(entry)

    assert len(bench.server.requests) == 1


@pytest.mark.parametrize("status", [302, 400, 404, 429, 500, 503])
def test_any_other_answer_is_tried_again_under_the_same_id(bench, status):
    _, entry = bench.run_job()
    bench.server.replies.append(Reply(status=status, body=b"not now"))

    bench.courier.deliver(entry)
    assert bench.is_due_later(entry)
    assert (bench.kept(entry)["status"], bench.kept(entry)["error"]) == (str(status), "not now")
    bench.let_time_pass(entry)
    bench.courier.deliver(entry)

    first, second = bench.server.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert str(entry.split(":")[0]) not in first.headers["webhook-id"]
    assert bench.redis.zcard("{dr}:ob") == 0


def test_gone_means_never_again(bench):
    _, entry = bench.run_job()
    bench.server.replies.append(Reply(status=410))

    bench.courier.deliver(entry)

    assert bench.redis.zrange("{dr}:ob:dead", 0, -1) == [entry]


def test_a_receiver_that_is_away_is_tried_until_the_schedule_ends(bench):
    _, entry = bench.run_job(url=f"http://127.0.0.1:{free_port()}/")

    for _ in range(MAX_ATTEMPTS - 1):
        bench.courier.deliver(entry)
        assert bench.is_due_later(entry)
        bench.let_time_pass(entry)
    bench.courier.deliver(entry)

    assert bench.redis.zrange("{dr}:ob:dead", 0, -1) == [entry]
    assert bench.kept(entry)["attempt"] == str(MAX_ATTEMPTS)
    assert bench.kept(entry)["error"] == "The connection could not be made."


def test_a_private_address_is_not_called_unless_allowed(valkey, server, tmp_path):
    bench = Bench(valkey, server, tmp_path, allow=())
    _, entry = bench.run_job()

    bench.courier.deliver(entry)

    assert server.requests == []
    assert bench.is_due_later(entry)
    assert bench.kept(entry)["error"] == "This URL leads where Darkroom does not go."


def test_attempts_that_ended_without_a_word_end_too(bench):
    _, entry = bench.run_job()
    bench.redis.hset(f"{{dr}}:ob:{entry}", "attempt", MAX_ATTEMPTS)

    bench.courier.deliver(entry)

    assert bench.server.requests == []
    assert bench.redis.zrange("{dr}:ob:dead", 0, -1) == [entry]


def test_an_erased_job_is_not_announced(bench):
    uid, entry = bench.run_job()
    bench.backlog.erase(uid, account=bench.credentials.account)

    bench.courier.deliver(entry)

    assert bench.server.requests == []
    assert bench.outbox.due(10) == []


def test_an_entry_whose_job_is_missing_is_dead(bench):
    uid, entry = bench.run_job()
    bench.redis.delete(f"{{dr}}:j:{uid}")

    bench.courier.deliver(entry)

    assert bench.redis.zrange("{dr}:ob:dead", 0, -1) == [entry]


def test_storage_that_is_away_delays_the_webhook(bench, monkeypatch):
    _, entry = bench.run_job()

    def away(*_args, **_options):
        raise StorageUnavailable

    monkeypatch.setattr(bench.storage, "link", away)
    bench.courier.deliver(entry)

    assert bench.is_due_later(entry)
    assert bench.kept(entry)["error"] == "The storage cannot be reached."


def test_an_outage_or_a_fault_half_way_leaves_the_entry_to_its_lease(bench, monkeypatch):
    _, entry = bench.run_job()

    def away(*_args, **_options):
        raise BacklogUnavailable

    with monkeypatch.context() as broken:
        broken.setattr(bench.backlog, "read", away)
        bench.courier.deliver(entry)
    assert bench.is_due_later(entry)

    bench.let_time_pass(entry)
    with monkeypatch.context() as broken:
        broken.setattr(bench.storage, "link", lambda *_args, **_options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bench.courier.deliver(entry)
    assert bench.is_due_later(entry)

    bench.let_time_pass(entry)
    bench.courier.deliver(entry)
    assert len(bench.server.requests) == 1


@pytest.mark.parametrize(
    ("event", "status"), [("started", "running"), ("queued", "queued"), ("succeeded", "succeeded")]
)
def test_a_later_change_does_not_alter_what_is_announced(bench, event, status):
    uid, _ = bench.run_job()
    job = bench.backlog.read(uid, account=bench.credentials.account)

    assert as_announced(job, event).status == status


def test_a_courier_is_built_from_the_settings(valkey_server, valkey, tmp_path):
    bell = SilentBell()
    settings = Settings(redis_url=valkey_server.url, data_dir=tmp_path, outbound_allow=LOOPBACK)

    build_courier(settings, bell).deliver("123:1")
    Ticker.from_settings(settings, bell).tick()

    assert bell.due == []


def test_a_410_disables_the_endpoint_for_this_account_until_it_is_enabled(bench):
    _, first = bench.run_job(url=f"{bench.server.url}/hook?order=1")
    second_uid, second = bench.run_job(url=f"{bench.server.url}/hook?order=2")
    _, elsewhere = bench.run_job(url=f"{bench.server.url}/other")
    bench.server.replies.append(Reply(status=410))
    for entry in (first, second, elsewhere):
        bench.courier.deliver(entry)

    assert [one.path for one in bench.server.requests] == ["/hook?order=1", "/other"]
    account = bench.credentials.account
    assert bench.kept(second)["error"] == "The endpoint has answered 410 and is disabled."
    assert bench.deliveries.dead(account, offset=0, limit=9)[0].uid == second_uid
    ((endpoint, _),) = bench.deliveries.disabled(account)
    assert endpoint == f"{bench.server.url}/hook"

    assert bench.deliveries.enable(account, f"{bench.server.url}/hook?order=3")
    bench.deliveries.redeliver(second_uid, account=account)
    bench.courier.deliver(second)

    assert bench.server.requests[-1].path == "/hook?order=2"
    assert bench.kept(second)["done"].endswith(":delivered")
    assert len(bench.deliveries.dead(account, offset=0, limit=9)) == 1


@pytest.mark.parametrize("header", ["86000", "in a date"])
def test_retry_after_is_honoured(bench, header):
    _, entry = bench.run_job()
    text = format_datetime(datetime.now(UTC) + timedelta(seconds=86_000), usegmt=True) if "date" in header else header
    bench.server.replies.append(Reply(status=503, headers={"Retry-After": text}))

    bench.courier.deliver(entry)

    delay_ms = bench.redis.zscore("{dr}:ob", entry) - int(bench.kept(entry)["at"])
    assert 85_900_000 <= delay_ms <= 86_000_000


@pytest.mark.parametrize("text", [None, "", "soon", "-5", "1.5", "Wed, 21 Oct 2015 07:28:00 GMT", "\u0661\u0662"])
def test_a_retry_after_that_asks_for_nothing(text):
    assert asked_pause_s(text) == 0


def test_a_receiver_may_not_ask_for_more_than_a_day(bench):
    _, entry = bench.run_job()
    bench.server.replies.append(Reply(status=429, headers={"Retry-After": "9" * 40}))

    bench.courier.deliver(entry)

    assert bench.redis.zscore("{dr}:ob", entry) - int(bench.kept(entry)["at"]) == 86_400_000


def test_a_dead_receiver_is_not_called_for_a_while_and_its_attempts_do_not_count(bench):
    away = f"http://127.0.0.1:{free_port()}/"
    entries = [bench.run_job(url=away)[1] for _ in range(FAILURES_TO_OPEN + 1)]
    _, healthy = bench.run_job()
    for entry in (*entries, healthy):
        bench.courier.deliver(entry)

    assert len(bench.server.requests) == 1
    last = bench.kept(entries[-1])
    assert (last["attempt"], last["spared"]) == ("1", "1")
    assert "not answered for a while" in last["error"]
    assert bench.is_due_later(entries[-1])
    bench.let_time_pass(entries[-1])
    bench.courier.deliver(entries[-1])
    assert bench.kept(entries[-1])["error"] == "The connection could not be made."
    assert bench.outbox.claim(entries[-1]) is None


def test_what_has_found_no_room_for_days_is_given_up(bench):
    away = f"http://127.0.0.1:{free_port()}/"
    entries = [bench.run_job(url=away)[1] for _ in range(FAILURES_TO_OPEN + 1)]
    bench.redis.hset(f"{{dr}}:ob:{entries[-1]}", "since", 1)
    for entry in entries:
        bench.courier.deliver(entry)

    assert bench.redis.zrange("{dr}:ob:dead", 0, -1) == [entries[-1]]


def test_a_slow_receiver_holds_few_threads(bench):
    slow = threading.Event()
    bench.server.replies += [Reply(hold=slow) for _ in range(4)]
    entries = [bench.run_job()[1] for _ in range(6)]
    threads = [threading.Thread(target=bench.courier.deliver, args=(entry,)) for entry in entries[:4]]
    for thread in threads:
        thread.start()
    bench.server.wait_for(4)
    with receiver() as other:
        for entry in entries[4:]:
            bench.courier.deliver(entry)  # returns at once: there is no room
        bench.courier.deliver(bench.run_job(url=f"{other.url}/")[1])
        assert len(other.requests) == 1
    slow.set()
    for thread in threads:
        thread.join()

    assert len(bench.server.requests) == 4
    assert [bench.kept(entry)["error"] for entry in entries[4:]] == ["The receiver is busy with other calls."] * 2
    assert bench.redis.zcard("{dr}:ob") == 2


def test_every_call_is_in_the_log_without_its_query(bench):
    uid, entry = bench.run_job()
    bench.server.replies.append(Reply(status=500, body=b"no\nluck"))
    bench.courier.deliver(entry)
    bench.let_time_pass(entry)
    bench.courier.deliver(entry)

    newest, oldest = bench.deliveries.of_job(uid)
    assert bench.deliveries.of_account(bench.credentials.account, limit=9) == [newest, oldest]
    assert (oldest.attempt, oldest.call.status, oldest.call.outcome, oldest.call.excerpt) == (
        1,
        500,
        "retry",
        "no\nluck",
    )
    assert (newest.attempt, newest.call.status, newest.call.outcome) == (2, 200, "delivered")
    assert newest.call.url == f"{bench.server.url}/hook"
    assert newest.call.webhook_id == oldest.call.webhook_id == bench.server.requests[0].headers["webhook-id"]
    (webhook,) = bench.deliveries.webhooks(uid)
    assert (webhook.state, webhook.attempts, webhook.status) == ("delivered", 2, 200)


def test_the_log_is_bounded_and_goes_with_its_job(bench):
    uid, entry = bench.run_job()
    lines = [json.dumps({"n": n}) for n in range(60)]
    claimed = bench.outbox.claim(entry)
    bench.outbox._done(bench.redis, entry, claimed.attempt, "retry", 0, "", "", *lines)

    kept = bench.redis.lrange(f"{{dr}}:told:{uid}", 0, -1)
    assert len(kept) == 50
    assert kept[-1].endswith(lines[-1])
    bench.backlog.erase(uid, account=bench.credentials.account)
    assert not bench.redis.exists(f"{{dr}}:told:{uid}")


def test_redelivery_begins_the_schedule_anew_under_the_same_id(bench):
    uid, entry = bench.run_job()
    bench.courier.deliver(entry)
    bench.deliveries.redeliver(uid, account=bench.credentials.account)
    bench.server.replies.append(Reply(status=500))
    bench.courier.deliver(entry)

    first, second = bench.server.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    due_ms = bench.redis.zscore("{dr}:ob", entry) - int(bench.kept(entry)["at"])
    assert due_ms <= 1.1 * 1000 * RETRY_DELAYS_S[0]
    (webhook,) = bench.deliveries.webhooks(uid)
    assert (webhook.state, webhook.attempts) == ("waiting", 1)


def test_a_later_versions_wire_format_is_left_to_its_couriers(bench):
    _uid, entry = bench.run_job(dialect="next")
    bench.courier.deliver(entry)
    assert bench.server.requests == []
    assert bench.is_due_later(entry)
    assert bench.kept(entry)["spared"] == "1"  # as if nobody had tried


def test_a_redelivery_whose_reply_was_lost_is_one(bench):
    uid, entry = bench.run_job()
    bench.courier.deliver(entry)
    again, account = bench.deliveries._again, bench.credentials.account

    assert again(bench.redis, uid, account, "nonce") == ["ok", entry]
    bench.courier.deliver(entry)
    assert again(bench.redis, uid, account, "nonce") == ["ok", entry]

    assert bench.outbox.due(9) == []
    assert len(bench.server.requests) == 2


def test_the_way_of_a_job_is_told_while_it_lasts(bench):
    events = ("queued", "started", "progress", "succeeded")
    spec = JobSpec(prompt="a circle", model="demo", seed=7)
    submission = Submission(spec=spec, webhook_url=f"{bench.server.url}/hook", webhook_events=events)
    receipt = bench.backlog.submit(submission, account=bench.credentials.account, pool="default")
    told = f"{receipt.uid}:"
    assert bench.bell.due == [f"{told}q0"]
    bench.courier.deliver(f"{told}q0")
    bench.backlog.hello(NODE, "1", pool="default", models=["demo"])
    (lease,) = bench.backlog.claim(NODE, max_jobs=1, max_images=1).leases
    bench.courier.deliver(f"{told}r1")
    for step in (1, 2, 3):
        bench.backlog.renew(NODE, {lease: (step, 10)})
    assert bench.bell.due == [f"{told}q0", f"{told}r1", f"{told}p1-1"]
    bench.courier.deliver(f"{told}p1-1")
    bench.redis.hset(f"{{dr}}:j:{receipt.uid}", "hooked", 0)
    bench.backlog.renew(NODE, {lease: (4, 10)})
    bench.backlog.finish(NODE, lease, Status.SUCCEEDED, bench.result(receipt.handle, Status.SUCCEEDED))
    for entry in bench.bell.due[3:]:
        bench.courier.deliver(entry)

    bodies = [json.loads(one.body) for one in bench.server.requests]
    assert [(body["event"], body["status"]) for body in bodies] == [
        ("queued", "queued"),
        ("started", "running"),
        ("progress", "running"),
        ("succeeded", "succeeded"),
    ]
    assert bodies[2]["progress"] == {"step": 3, "steps": 10, "fraction": 0.3}
    assert len({one.headers["webhook-id"] for one in bench.server.requests}) == 4
    assert bench.redis.zcard("{dr}:ob") == 0


def test_what_tells_of_a_job_on_its_way_is_tried_twice_and_not_kept(bench):
    spec = JobSpec(prompt="a circle", model="demo", seed=7)
    submission = Submission(spec=spec, webhook_url=f"{bench.server.url}/hook", webhook_events=("queued",))
    uid = bench.backlog.submit(submission, account=bench.credentials.account, pool="default").uid
    entry = f"{uid}:q0"
    assert bench.redis.ttl(f"{{dr}}:ob:{entry}") > 0
    bench.server.replies += [Reply(status=500), Reply(status=500)]
    bench.courier.deliver(entry)
    bench.let_time_pass(entry)
    bench.courier.deliver(entry)

    assert len(bench.server.requests) == 2
    assert bench.redis.zcard("{dr}:ob") == bench.redis.zcard("{dr}:ob:dead") == 0


def test_both_live_secrets_sign_until_one_is_retired(bench):
    secrets = WebhookSecrets(bench.redis)
    old = bench.credentials.webhook_secret
    new, kept = secrets.rotate("alice")
    assert kept == old
    bench.courier.deliver(bench.run_job()[1])
    assert secrets.retire("alice") == [new]
    bench.courier.deliver(bench.run_job()[1])

    both, one = bench.server.requests
    for secret in (old, new):
        Webhook(secret).verify(both.body, both.headers)
    Webhook(new).verify(one.body, one.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(one.body, one.headers)
    assert secrets._change(bench.redis, bench.credentials.account, new) == [new]  # a reply that was lost
    with pytest.raises(UnknownAccount):
        secrets.rotate("nobody")


class TestTicker:
    def test_it_sweeps_and_rings_for_what_is_due(self, bench):
        _, entry = bench.run_job()
        bench.bell.due.clear()
        ticker = Ticker(bench.backlog, bench.batches, bench.outbox, bench.bell)

        ticker.tick()
        ticker.tick()

        assert bench.bell.due == [entry]

    def test_a_lost_ring_is_made_good(self, bench, monkeypatch):
        monkeypatch.setattr("worker.ticker.RING_AGAIN_S", 0.0)
        _, entry = bench.run_job()
        bench.bell.due.clear()
        ticker = Ticker(bench.backlog, bench.batches, bench.outbox, bench.bell)

        ticker.tick()
        ticker.tick()

        assert bench.bell.due == [entry, entry]

    def test_it_rings_for_no_more_than_couriers_can_hear(self, bench):
        entries = [bench.run_job()[1] for _ in range(2)]
        bench.bell.due.clear()
        bench.redis.rpush(COURIER_QUEUE, *["unread"] * (RUNG_AT_ONCE - 1))
        ticker = Ticker(bench.backlog, bench.batches, bench.outbox, bench.bell)

        ticker.tick()
        assert bench.bell.due == entries[:1]

        bench.redis.rpush(COURIER_QUEUE, "unread")
        ticker.tick()
        assert bench.bell.due == entries[:1]

        bench.redis.delete(COURIER_QUEUE)
        ticker.tick()
        assert bench.bell.due == entries

    def test_it_ticks_until_it_is_stopped_whatever_happens(self, bench, monkeypatch):
        _, entry = bench.run_job()
        bench.bell.due.clear()
        troubles = [BacklogUnavailable(), ValueError("a bug")]
        rung = threading.Event()

        def sweep():
            if troubles:
                raise troubles.pop(0)

        monkeypatch.setattr(bench.backlog, "sweep", sweep)
        monkeypatch.setattr(bench.bell, "deliver", lambda entries: rung.set() if entry in entries else None)
        ticker = Ticker(bench.backlog, bench.batches, bench.outbox, bench.bell, period_s=0.01)

        ticker.start()
        assert rung.wait(60)
        ticker.stop()

        assert not ticker._thread.is_alive()
        assert troubles == []

    def test_it_carries_on_when_redis_comes_back(self, server, tmp_path):
        with valkey_service(aof=True) as service:
            settings = Settings(redis_url=service.url)
            client = connect(settings)
            bench = Bench(client, server, tmp_path)
            rung = bench.bell = RecordingBell()
            backlog = Backlog(client, rung)
            outbox = Outbox(connect(settings), lease_s=30)
            ticker = Ticker(backlog, Batches(client, rung, backlog), outbox, rung, period_s=0.01)
            ticker.start()
            _, first = bench.run_job()
            rung.wait_for(first)

            service.restart()
            wait_until(lambda: answers(client), what="Valkey")
            _, second = bench.run_job()

            rung.wait_for(second)
            ticker.stop()
            client.close()


class RecordingBell(SilentBell):
    """A silent bell that can be waited for."""

    def __init__(self):
        super().__init__()
        self._changed = threading.Condition()

    def deliver(self, entries):
        with self._changed:
            super().deliver(entries)
            self._changed.notify_all()

    def wait_for(self, entry):
        with self._changed:
            assert self._changed.wait_for(lambda: entry in self.due, 60)


def answers(client) -> bool:
    try:
        return client.ping()
    except RedisError:
        return False


def open_batch(bench, count=2, **options):
    upload = bench.batches.upload()
    for number in range(count):
        submission = Submission(spec=JobSpec(prompt=f"number {number}", model="demo", seed=7))
        upload.add(BatchLine(submission=submission, pool="default", price=0, handle=f"{number:032x}"))
    options = BatchOptions(**{"webhook_url": f"{bench.server.url}/done", **options})
    return bench.batches.open(upload, account=bench.credentials.account, options=options).id


def end_jobs(bench, status=Status.SUCCEEDED):
    bench.backlog.hello(NODE, "1", pool="default", models=["demo"])
    for lease in bench.backlog.claim(NODE, max_jobs=8, max_images=8).leases:
        bench.backlog.finish(NODE, lease, status, bench.result(lease.handle, status))


def told_of_batches(bench):
    """Let the courier deliver all that is due; return the verified bodies that came."""
    seen = len(bench.server.requests)
    for entry in bench.outbox.due(10):
        bench.courier.deliver(entry)
    verify = Webhook(bench.credentials.webhook_secret).verify
    return [verify(request.body, request.headers) for request in bench.server.requests[seen:]]


def test_a_batch_tells_its_end_once(bench):
    batch = open_batch(bench, name="overnight")
    assert told_of_batches(bench) == []

    end_jobs(bench)
    (told,) = told_of_batches(bench)

    assert (told["event"], told["id"], told["name"], told["status"]) == (
        "batch.completed", batch, "overnight", "completed"
    )  # fmt: skip
    assert told["counts"]["succeeded"] == told["total"] == 2
    assert told["links"]["results"] == f"https://api.example/v1/batches/{batch}/results"
    handle = bench.redis.hget(f"{{dr}}:b:{batch}", "handle")
    assert bench.server.requests[0].headers["webhook-id"] == f"msg_{handle}_1"
    assert told_of_batches(bench) == []
    assert [call.call.event for call in bench.deliveries.of_job(batch)] == ["batch.completed"]
    assert [(each.event, each.state) for each in bench.deliveries.webhooks(batch)] == [("batch.completed", "delivered")]


def test_a_batchs_webhook_is_retried_and_sent_again(bench):
    batch = open_batch(bench)
    with pytest.raises(NotFinished):
        bench.deliveries.redeliver(batch, account=bench.credentials.account)
    end_jobs(bench)
    bench.server.replies.append(Reply(status=500))
    told_of_batches(bench)
    bench.let_time_pass(f"{batch}:1")
    told_of_batches(bench)
    bench.deliveries.redeliver(batch, account=bench.credentials.account)
    told_of_batches(bench)

    assert len(bench.server.requests) == 3
    assert len({request.headers["webhook-id"] for request in bench.server.requests}) == 1
    with pytest.raises(JobNotFound):
        bench.deliveries.redeliver(batch, account="77")


def test_a_batch_that_is_retried_tells_of_that_end_too(bench):
    batch = open_batch(bench)
    end_jobs(bench, Status.FAILED)
    bench.batches.set(batch, "retry", account=bench.credentials.account)
    (first,) = told_of_batches(bench)
    end_jobs(bench)
    (second,) = told_of_batches(bench)

    assert (first["event"], first["status"]) == ("batch.completed", "completed")
    assert second["counts"]["succeeded"] == 2
    first_id, second_id = (request.headers["webhook-id"] for request in bench.server.requests)
    assert (first_id[-2:], second_id[-2:]) == ("_1", "_2")


def test_a_cancelled_batch_tells_so(bench):
    batch = open_batch(bench)
    bench.batches.set(batch, "cancel", account=bench.credentials.account)

    (told,) = told_of_batches(bench)

    assert (told["event"], told["status"], told["counts"]["cancelled"]) == ("batch.cancelled", "cancelled", 2)


def test_a_batch_that_asks_for_no_webhook_makes_none(bench):
    open_batch(bench, webhook_url=None)
    end_jobs(bench)

    assert bench.outbox.due(10) == []


def test_a_batch_that_is_gone_is_told_no_more(bench):
    batch = open_batch(bench)
    end_jobs(bench)
    (entry,) = bench.outbox.due(10)
    bench.redis.delete(f"{{dr}}:b:{batch}")

    bench.courier.deliver(entry)

    assert bench.server.requests == []
    assert bench.kept(entry)["done"] == "1:dead"
