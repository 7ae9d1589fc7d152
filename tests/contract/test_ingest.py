"""Images named by URL are fetched, stored and sent on, or end their job by name."""

import io
import os
import signal
import threading

import pytest
from PIL import Image

from shared.accounts import Accounts
from shared.backlog import INGEST_MODEL, INGEST_POOL, Backlog
from shared.celery_app import SilentBell
from shared.job import Status, Submission
from shared.safe_http import SafeHttp
from shared.settings import Settings
from shared.spec import JobSpec
from shared.storage.disk import DiskStorage
from tests import services
from tests.apibench import png
from worker.heartbeat import Heartbeat
from worker.ingest import Ingest
from worker.introduction import Introduction
from worker.watchdogs import DEAF_S, PULSE_S

NODE, WORKER = "courier@test", "worker@test"
PNG = services.Reply(headers={"Content-Type": "image/png"}, body=png("blue"))


class Rig:
    """A courier's fetching side on a real server, and a worker to send jobs on to."""

    def __init__(self, redis, folder):
        self.redis = redis
        self.backlog = Backlog(redis, SilentBell())
        self.accounts = Accounts(redis)
        self.account = self.accounts.create_key("alice").account
        self.storage = DiskStorage(folder, base_url="http://test", secret="s" * 16)
        self.backlog.hello(WORKER, "1", pool="default", models=("demo",))
        self.ingest = self.make()

    def make(self):
        beating = Backlog(self.redis, SilentBell())
        introduce = Introduction(backlog=beating, node=NODE, pool=INGEST_POOL, models=(INGEST_MODEL,))
        return Ingest(
            NODE,
            backlog=self.backlog,
            accounts=self.accounts,
            storage=self.storage,
            http=SafeHttp(allow=Settings.from_env({"OUTBOUND_ALLOW": "127.0.0.0/8"}).outbound_allow),
            heartbeat=Heartbeat(beating, NODE, introduce=introduce),
        )

    def submit(self, **fields):
        spec = JobSpec(prompt="x", model="demo", seed=1, **fields)
        return self.backlog.submit(Submission(spec=spec), account=self.account, pool="default").uid

    def read(self, uid):
        return self.backlog.read(uid, account=self.account)

    def drawable(self):
        return self.backlog.claim(WORKER, max_jobs=8, max_images=16).leases


@pytest.fixture
def rig(valkey, tmp_path):
    rig = Rig(valkey, tmp_path / "storage")
    rig.ingest.start()
    yield rig
    rig.ingest.stop()


@pytest.fixture
def receiver():
    with services.receiver() as server:
        yield server


def test_images_are_fetched_stored_and_sent_on(rig, receiver):
    receiver.replies += [PNG, services.Reply(headers={"Content-Type": "image/png"}, body=png("white"))]
    uid = rig.submit(image=f"{receiver.url}/a.png", mask_image=f"{receiver.url}/m.png")
    assert rig.drawable() == ()

    rig.ingest.generate()

    (lease,) = rig.drawable()
    assert lease.uid == uid
    spec = lease.submission.spec
    assert (spec.image, spec.mask_image) == (
        f"inputs/{lease.handle}/image.png",
        f"inputs/{lease.handle}/mask_image.png",
    )
    assert Image.open(io.BytesIO(rig.storage.get(spec.image).data)).getpixel((0, 0)) == (0, 0, 255)
    assert [request.path for request in receiver.requests] == ["/a.png", "/m.png"]


@pytest.mark.parametrize(
    ("reply", "code", "retryable"),
    [
        (services.Reply(status=404), "invalid_value", False),
        (services.Reply(status=503), "image_unreachable", True),
        (services.Reply(headers={"Content-Type": "text/html"}, body=b"<html>"), "invalid_value", False),
        (services.Reply(headers={"Content-Type": "image/png"}, body=b"no picture"), "invalid_value", False),
        (services.Reply(status=302, headers={"Location": "http://10.0.0.1/"}), "invalid_value", False),
    ],
)
def test_what_cannot_be_had_ends_the_job_by_name(rig, receiver, reply, code, retryable):
    receiver.replies.append(reply)
    uid = rig.submit(image=f"{receiver.url}/a.png")

    rig.ingest.generate()

    job = rig.read(uid)
    assert job.status is Status.FAILED
    assert (job.result.error["code"], job.result.error["retryable"]) == (code, retryable)
    assert job.result.error["message"].startswith("image: ")
    assert rig.drawable() == ()


def test_a_slow_server_holds_up_nobody_else(rig, receiver):
    slow = threading.Event()
    receiver.replies += [services.Reply(hold=slow, headers=PNG.headers, body=PNG.body), PNG]
    first = rig.submit(image=f"{receiver.url}/slow.png")
    turn = threading.Thread(target=rig.ingest.generate)
    turn.start()
    receiver.wait_for(1)
    second = rig.submit(image=f"{receiver.url}/quick.png")
    claimed = services.wait_until(rig.drawable, what="the second job")
    assert [lease.uid for lease in claimed] == [second]
    slow.set()
    turn.join()
    assert [lease.uid for lease in rig.drawable()] == [first]


def test_a_wake_up_during_a_turn_holds_no_thread(rig, receiver):
    """The courier's threads are the webhooks' as well: one slow image must not gather them all."""
    slow = threading.Event()
    receiver.replies += [services.Reply(hold=slow, headers=PNG.headers, body=PNG.body), PNG]
    rig.submit(image=f"{receiver.url}/slow.png")
    turn = threading.Thread(target=rig.ingest.generate)
    turn.start()
    receiver.wait_for(1)
    second = rig.submit(image=f"{receiver.url}/quick.png")
    woken = threading.Thread(target=rig.ingest.generate, daemon=True)
    woken.start()

    woken.join(60)

    assert not woken.is_alive()
    assert turn.is_alive()
    assert [lease.uid for lease in services.wait_until(rig.drawable, what="the second job")] == [second]
    slow.set()
    turn.join()


def test_a_wake_up_as_a_turn_ends_is_not_missed(rig, receiver, monkeypatch):
    receiver.replies += [PNG, PNG]
    work, uids = rig.ingest._work, [rig.submit(image=f"{receiver.url}/1.png")]

    def work_and_be_woken():
        work()
        if len(uids) == 1:  # nothing is left, and the turn is not given up yet
            uids.append(rig.submit(image=f"{receiver.url}/2.png"))
            rig.ingest.generate()

    monkeypatch.setattr(rig.ingest, "_work", work_and_be_woken)
    rig.ingest.generate()

    assert sorted(lease.uid for _ in uids for lease in rig.drawable()) == uids


def test_a_courier_wakes_itself_now_and_then_and_hears_it(valkey_server, tmp_path, monkeypatch):
    settings = Settings.from_env({"REDIS_URL": valkey_server.url, "DARKROOM_DATA_DIR": str(tmp_path)})
    bell, ended = SilentBell(), []
    monkeypatch.setattr("worker.watchdogs.OUTAGE_S", 1e9)  # however long this machine takes for a line
    monkeypatch.setattr("os.kill", lambda *told: ended.append(told))
    ingest = Ingest.from_settings(settings, bell, node=NODE)
    pulse, beat = ingest._pulse, ingest._heartbeat._pulse

    pulse._woken_at -= PULSE_S + 1
    beat()
    assert bell.woken == [NODE]

    pulse._heard_at -= DEAF_S + 1
    ingest._heartbeat.introduced.set()
    ingest._stopping.set()  # there is nothing to look for here
    ingest.generate()
    beat()
    assert ended == []

    pulse._heard_at -= DEAF_S + 1
    beat()
    assert ended == [(os.getpid(), signal.SIGTERM)]


def test_a_job_that_is_erased_meanwhile_leaves_no_image(rig, receiver):
    held = threading.Event()
    receiver.replies.append(services.Reply(hold=held, headers=PNG.headers, body=PNG.body))
    uid = rig.submit(image=f"{receiver.url}/a.png")
    handle = rig.read(uid).handle
    turn = threading.Thread(target=rig.ingest.generate)
    turn.start()
    receiver.wait_for(1)
    rig.backlog.cancel(uid, account=rig.account)
    rig.backlog.erase(uid, account=rig.account)
    held.set()
    turn.join()

    assert rig.storage.delete_prefix(f"inputs/{handle}") == 0


def test_a_courier_that_stops_hands_back_what_it_has_not_fetched(rig, receiver):
    held = threading.Event()
    receiver.replies.append(services.Reply(hold=held))
    uid = rig.submit(image=f"{receiver.url}/a.png")
    turn = threading.Thread(target=rig.ingest.generate)
    turn.start()
    receiver.wait_for(1)
    rig.ingest.stop()
    held.set()
    turn.join()

    receiver.replies.append(PNG)
    rig.ingest = rig.make()
    rig.ingest.start()
    rig.ingest.generate()

    (lease,) = rig.drawable()
    assert (lease.uid, lease.attempts) == (uid, 1)


def test_a_job_that_was_cancelled_meanwhile_stays_so(rig, receiver):
    held = threading.Event()
    receiver.replies.append(services.Reply(hold=held, headers=PNG.headers, body=PNG.body))
    uid = rig.submit(image=f"{receiver.url}/a.png")
    turn = threading.Thread(target=rig.ingest.generate)
    turn.start()
    receiver.wait_for(1)
    rig.backlog.cancel(uid, account=rig.account)
    held.set()
    turn.join()

    assert rig.read(uid).status is Status.CANCELLED
    assert rig.drawable() == ()
