"""A batch's life on a real Valkey, with a pipeline that draws noise in no time."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.errors import StorageUnavailable
from shared.job import Status
from shared.keys import job_key
from tests import services
from tests.worker_rig import NODE, POISON, Rig
from worker import insist, run
from worker.batch import Work
from worker.heartbeat import Heartbeat


@pytest.fixture
def rig(valkey):
    return Rig(valkey)


@pytest.fixture
def gpu(valkey):
    return Rig(valkey, one_by_one=False)


def test_a_turn_runs_what_waits_and_returns(rig):
    uids = [rig.submit(seed=seed, num_images=2) for seed in (1, 5)]
    rig.runner.turn()
    for uid in uids:
        job = rig.read(uid)
        assert job.status is Status.SUCCEEDED
        assert [a.key for a in job.result.artifacts] == [f"results/{job.handle}/1/{i}.png" for i in (0, 1)]
        assert [a.seed for a in job.result.artifacts] == list(job.submission.spec.image_seeds())
        assert set(job.result.timings) == {"load", "generate", "encode", "store"}
        assert job.result.parameters["scheduler"] == "DDIMScheduler"
        assert job.result.engine == {"device": "stub", "model_hash": "stub"}
        assert [word for told, word in rig.events.told if told == uid] == ["started", "succeeded"]
    assert rig.claim() == ()


def test_one_by_one_leaves_the_rest_for_others(rig):
    first, second = rig.submit(), rig.submit()
    claimed = rig.runner._claim()
    assert [lease.uid for lease in claimed] == [first]
    assert rig.statuses(second) == ["queued"]


def test_one_by_one_draws_a_claimed_batch_one_by_one(rig):
    uids = [rig.submit(seed=seed) for seed in (1, 2)]
    rig.runner.run(rig.claim())
    assert rig.delivery.drain(60)
    assert rig.pipeline.calls == [1, 1]
    assert rig.statuses(*uids) == ["succeeded"] * 2


def test_a_gpu_draws_a_batch_in_one_call(gpu):
    uids = [gpu.submit(seed=seed) for seed in (1, 2, 3)]
    gpu.runner.turn()
    assert gpu.pipeline.calls == [3]
    assert gpu.statuses(*uids) == ["succeeded"] * 3


def test_prompts_of_other_length_get_a_call_of_their_own(gpu):
    uids = [gpu.submit(prompt) for prompt in ("short", "long " * 40, "short too")]
    gpu.runner.turn()
    assert sorted(gpu.pipeline.calls) == [1, 2]
    assert gpu.statuses(*uids) == ["succeeded"] * 3


def test_a_cancelled_job_stops_within_its_step(rig):
    uid, after = rig.submit(num_inference_steps=50), rig.submit()
    steps = []

    def on_step(step):
        if len(rig.pipeline.calls) == 1:
            steps.append(step)
            if step == 2:
                rig.cancel(uid)

    rig.pipeline.on_step = on_step
    rig.runner.turn()
    assert steps == [0, 1, 2]
    assert rig.statuses(uid, after) == ["cancelled", "succeeded"]
    assert (uid, "cancelled") in rig.events.told
    assert not any(rig.read(uid).handle in key for key in rig.storage.objects)


def test_a_cancelled_mate_is_dropped_and_the_rest_goes_on(gpu):
    first, second = gpu.submit(), gpu.submit(seed=9)
    gpu.pipeline.on_step = lambda step: gpu.cancel(first) if step == 1 else None
    gpu.runner.turn()
    assert gpu.statuses(first, second) == ["cancelled", "succeeded"]
    assert len(gpu.storage.objects) == 1


def test_one_jobs_trouble_is_not_its_mates(gpu):
    good, bad, also_good = gpu.submit(), gpu.submit(POISON), gpu.submit(seed=3)
    gpu.runner.turn()
    assert gpu.statuses(good, bad, also_good) == ["succeeded", "failed", "succeeded"]
    error = gpu.read(bad).result.error
    assert error["code"] == "generation_failed"
    assert "secret" not in str(error)


def test_a_model_that_cannot_be_loaded_fails_its_jobs(rig):
    uid = rig.submit(model="missing")
    rig.runner.turn()
    assert rig.read(uid).result.error == {
        "code": "model_load_failed",
        "message": "the model 'missing' could not be loaded",
        "retryable": False,
    }


def test_shutdown_finishes_what_runs_and_hands_back_the_rest(rig):
    running, waiting = rig.submit(num_images=2), rig.submit()
    leases = rig.claim()
    assert len(leases) == 2
    rig.pipeline.on_step = lambda _step: rig.stopping.set()
    rig.runner.run(leases)
    assert rig.delivery.drain(60)
    assert rig.statuses(running, waiting) == ["succeeded", "queued"]
    assert rig.read(waiting).attempts == 0
    rig.runner.turn()
    assert rig.statuses(waiting) == ["queued"]


def test_what_a_later_call_would_draw_is_not_lost_with_its_worker(gpu):
    uids = [gpu.submit(prompt) for prompt in ("short", "long " * 40, "short too")]
    gpu.pipeline.on_step = lambda step: step or gpu.hello("next")
    gpu.runner.run(gpu.claim())
    assert gpu.delivery.drain(60)
    assert gpu.pipeline.calls == [2]  # the third is another's by now, and not drawn
    assert [gpu.redis.hget(job_key(uid), "lost") for uid in uids] == ["1", None, "1"]
    assert gpu.statuses(*uids) == ["queued"] * 3


def test_a_batch_claimed_during_shutdown_goes_back_whole(gpu):
    uids = [gpu.submit(), gpu.submit()]
    leases = gpu.claim()
    gpu.stopping.set()
    gpu.runner.run(leases)
    assert gpu.pipeline.calls == []
    assert gpu.statuses(*uids) == ["queued", "queued"]


def test_a_broken_device_ends_the_process_and_no_job(rig):
    uid, after = rig.submit(), rig.submit()

    class Ended(BaseException):
        pass

    def end():
        raise Ended

    def break_down(_step):
        raise torch.AcceleratorError("an illegal memory access was encountered")

    rig.pipeline.on_step = break_down
    with pytest.raises(Ended):
        replace(rig.runner, end=end).turn()
    assert rig.statuses(uid, after) == ["running", "queued"]


def test_a_turn_that_takes_long_lets_celery_have_a_word(rig, monkeypatch):
    monkeypatch.setattr(run, "TURN_S", 0.0)
    first, second = rig.submit(), rig.submit()
    rig.runner.turn()
    assert rig.delivery.drain(60)
    assert rig.woken == [NODE]
    assert rig.statuses(first, second) == ["succeeded", "queued"]


def test_storage_that_is_away_is_waited_for_however_long(rig, monkeypatch):
    monkeypatch.setattr(insist, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(insist, "PATIENCE_S", 0.0)
    rig.storage.failures, rig.storage.well = 3, False
    uid = rig.submit()
    rig.runner.turn()
    assert rig.statuses(uid) == ["succeeded"]


def test_storage_that_is_well_but_refuses_fails_the_job(rig, monkeypatch):
    monkeypatch.setattr(insist, "PATIENCE_S", 0.0)
    rig.storage.failures = 100
    uid = rig.submit()
    rig.runner.turn()
    job = rig.read(uid)
    assert job.result.error["code"] == "storing_failed"
    assert job.result.error["retryable"] is True


@pytest.mark.parametrize(("away", "counted_from"), [((), 0), (range(10, 30), 30)])
def test_patience_is_with_a_storage_that_is_well(rig, monkeypatch, away, counted_from):
    """It has a minute; what was before it was away does not count."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(insist, "time", SimpleNamespace(monotonic=lambda: clock.now))
    made = []

    def refused():
        rig.storage.well = len(made) not in away
        made.append(clock.now)
        raise StorageUnavailable

    def pause(seconds):
        clock.now += seconds

    with pytest.raises(StorageUnavailable):
        insist.insist(refused, rig.storage, pause=pause)
    assert 60 <= made[-1] - made[counted_from] < 60 + insist.LONGEST_PAUSE_S


@pytest.mark.parametrize("stored", ["all", "a part"])
def test_a_job_that_is_erased_while_it_is_stored_leaves_no_picture(rig, monkeypatch, stored):
    uid = rig.submit(num_images=2)
    put = rig.storage.put

    def erase_then_put(key, data, *, content_type):
        if uid in rig.backlog.records([uid]):
            rig.cancel(uid)
            rig.backlog.erase(uid, account=rig.account)
        elif stored == "a part":
            rig.storage.failures, rig.storage.well = 1, False
        put(key, data, content_type=content_type)

    monkeypatch.setattr(rig.storage, "put", erase_then_put)
    rig.runner.turn()

    assert rig.pipeline.calls
    assert rig.storage.objects == {}


def test_nor_does_a_preview_of_it(rig, monkeypatch):
    uid = rig.submit(preview_every=1)
    put = rig.storage.put

    def erase_then_put(key, data, *, content_type):
        rig.cancel(uid)
        rig.backlog.erase(uid, account=rig.account)
        put(key, data, content_type=content_type)

    monkeypatch.setattr(rig.storage, "put", erase_then_put)
    image = Image.new("RGB", (64, 64))
    (work,) = (Work(lease, pool="default") for lease in rig.claim())

    rig.delivery.preview(work, 0, 1, image)

    assert rig.delivery.drain(60)
    assert rig.storage.objects == {}


def test_a_lease_taken_over_makes_the_result_void(rig):
    uid = rig.submit()
    rig.pipeline.on_step = lambda step: step or rig.hello("next")
    rig.runner.run(rig.claim())
    rig.delivery.drain(60)
    assert rig.statuses(uid) == ["queued"]
    assert (uid, "succeeded") not in rig.events.told


def test_an_outage_of_redis_loses_nothing():
    with services.valkey(aof=True) as server:
        rig = Rig(server.client(socket_timeout=1))
        uid = rig.submit(num_inference_steps=1)
        rig.redis.config_set("appendfsync", "always")
        rig.pipeline.on_step = lambda _step: server.kill()
        restart = threading.Timer(1.0, server.start)
        restart.start()
        rig.runner.turn()
        restart.join()
        assert rig.statuses(uid) == ["succeeded"]


def test_a_batch_is_drawn_although_nobody_hears_that_it_begins():
    with services.valkey(aof=True) as server:
        rig = Rig(server.client(socket_timeout=1, retry=Retry(NoBackoff(), 0)))
        rig.redis.config_set("appendfsync", "always")
        uid = rig.submit(num_inference_steps=1)
        leases = rig.claim()
        server.kill()
        rig.pipeline.on_step = lambda _step: server.start()
        rig.runner.run(leases)
        assert rig.delivery.drain(60)
        assert rig.statuses(uid) == ["succeeded"]


def test_progress_and_lease_are_told(rig):
    uid = rig.submit(num_inference_steps=4)
    seen = []

    def on_step(step):
        rig.heartbeat.beat()
        job = rig.read(uid)
        seen.append((job.step, job.steps))

    rig.pipeline.on_step = on_step
    rig.runner.turn()
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_the_heartbeat_thread_beats_and_survives_errors(rig):
    beats, failures = threading.Event(), [ValueError("once")]

    def pulse():
        if failures:
            raise failures.pop()
        beats.set()

    heartbeat = Heartbeat(rig.backlog, NODE, introduce=lambda: None, pulse=pulse)
    heartbeat.start()
    assert beats.wait(60)
    heartbeat.stop()
    assert heartbeat.introduced.is_set()


def test_pictures_depend_on_their_seed_alone(gpu):
    alone = gpu.submit(seed=7, num_images=1)
    gpu.runner.turn()
    batch = [gpu.submit(seed=6, num_images=2), gpu.submit(seed=1)]
    gpu.runner.turn()
    first = gpu.storage.objects[gpu.read(alone).result.artifacts[0].key].data
    second = gpu.storage.objects[gpu.read(batch[0]).result.artifacts[1].key].data
    assert first == second
    assert replace(gpu.read(alone).result.artifacts[0], key="") == replace(
        gpu.read(batch[0]).result.artifacts[1], key=""
    )
