"""Writes down, key by key, what this version leaves in Redis: a queue in the middle of its work.

    python -m tests.upgrade.record > tests/upgrade/format-N.json

A later version must be able to go on from there. What is written down of a released version is never written anew.
"""

import json
import sys
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import structlog
from redis import Redis

from shared.accounts import Accounts
from shared.backlog import INGEST_MODEL, INGEST_POOL, Backlog, Batches, Idempotency, Lease, batches
from shared.backlog.archives import Archives
from shared.batch import ArchivePart, BatchLine, BatchOptions
from shared.celery_app import SilentBell
from shared.job import WEBHOOK_EVENTS, Artifact, Preview, Result, Status, Submission
from shared.keys import PREFIX
from shared.spec import ControlNet, JobSpec, Lora
from tests import services

POOL, NODE, COURIER, MODELS = "default", "worker@gone", "courier@gone", ("demo", "other")
ARTIFACT = Artifact(key="results/x/1/0.png", seed=7, width=64, height=64, content_type="image/png", bytes=99)
DONE = Result(
    artifacts=(ARTIFACT,),
    parameters={"scheduler": "DDIMScheduler", "seed": 7},
    timings={"load": 0.0, "generate": 1.5},
    engine={"device": "cpu", "model_hash": "ab12"},
)
BROKEN = Result(error={"code": "generation_failed", "message": "It broke.", "retryable": True})
PREVIEW = Preview(key="results/x/1/preview-0-1.webp", index=0, step=1, width=64, height=64, content_type="image/webp")
PART = ArchivePart(key="archives/a/1/0001.zip", first=1, last=1, images=1, size=9)

#: One job that uses every field there is.
EVERYTHING = Submission(
    spec=JobSpec(
        prompt="a café, “quoted”",
        negative_prompt="blur",
        model="other",
        width=576,
        height=64,
        num_inference_steps=12,
        guidance_scale=5.5,
        scheduler="DDIMScheduler",
        use_karras_sigmas=True,
        algorithm_type="dpmsolver++",
        seed=(1, 2),
        num_images=2,
        image="inputs/0/image.png",
        mask_image="inputs/0/mask_image.png",
        strength=0.5,
        outpainting=True,
        inpaint_full_res=True,
        inpaint_full_res_padding=16,
        clip_skip=2,
        prompt_weighting="a1111",
        style_preset="anime",
        enhance_prompt=True,
        loras=(Lora("ink", 0.5),),
        vae="sharp",
        textual_inversions=(("charm", "<charm>"),),
        controlnets=(ControlNet("canny", "inputs/0/controlnets.0.image.png", scale=0.5, end=0.75, preprocess=False),),
        guess_mode=True,
        clip_guidance_preset="SIMPLE",
        tomesd=True,
        safety="blur",
        preview_every=5,
        output_format="webp",
        quality=80,
        embed_parameters=False,
    ),
    dialect="modelslab",
    track_id=7,
    webhook_url="https://example.com/hook",
    webhook_events=WEBHOOK_EVENTS,
    priority="low",
    start_deadline_s=864000000.0,
    run_deadline_s=600.0,
    options=(("kept_s", 864000000), ("any_pool", True)),
    ignored=("enhance_style",),
)


def plain(number: int, **fields: Any) -> Submission:
    """Return a job like many others."""
    return Submission(spec=JobSpec(prompt=f"number {number}", model="demo", width=64, height=64, seed=number), **fields)


def remote(number: int) -> Submission:
    """Return a job whose image has still to be fetched."""
    submission = plain(number)
    return replace(submission, spec=submission.spec.evolve(image=f"https://example.com/{number}.png", strength=0.5))


class Writer:
    """Leaves a queue in the middle of its work."""

    def __init__(self, redis: Redis) -> None:
        self.redis, bell = redis, SilentBell()
        self.backlog = Backlog(redis, bell)
        self.batches = Batches(redis, bell, self.backlog)
        self.account = Accounts(redis).create_key("studio", credits_=5).account
        self.backlog.hello(NODE, "1", pool=POOL, models=MODELS)
        self.backlog.hello(COURIER, "1", pool=INGEST_POOL, models=(INGEST_MODEL,))

    def submit(self, submission: Submission, **options: Any) -> int:
        """Submit a job and return its uid."""
        return self.backlog.submit(submission, account=self.account, pool=POOL, price=100, **options).uid

    def claim(self, count: int = 1) -> tuple[Lease, ...]:
        """Let the worker take so many jobs."""
        return self.backlog.claim(NODE, max_jobs=count, max_images=16, loaded_model="demo").leases

    def end(self, status: Status, result: Result, *, preview: Preview | None = None) -> int:
        """Submit a job and draw it."""
        uid = self.submit(plain(1, webhook_url="https://example.com/hook", track_id="mine"))
        (lease,) = self.claim()
        if preview is not None:
            self.backlog.preview(NODE, lease, preview)
        self.backlog.finish(NODE, lease, status, result)
        return uid

    def batch(self, first: int, count: int, *, fed: int) -> int:
        """Submit a batch of which so many lines are jobs already."""
        upload = self.batches.upload()
        for number in range(first, first + count):
            upload.add(BatchLine(submission=plain(number), pool=POOL, price=50, handle=f"{number:032x}"))
        options = BatchOptions(name="nightly", webhook_url="https://example.com/batch", budget=1000)
        with patch.object(batches, "QUEUED_AT_MOST", fed):
            return self.batches.open(upload, account=self.account, options=options).id

    def archive(self, batch: int) -> None:
        """Write the archive of a batch that is over."""
        archives = Archives(self.redis, lease_s=60)
        work = archives.claim(batch)
        if work is None:
            raise RuntimeError(f"the batch {batch} is not due")
        archives.add(work, PART, is_last=True)

    def write(self) -> dict[str, Any]:
        """Do all of it; return the jobs and batches by what they are."""
        found: dict[str, Any] = {"account": self.account}
        found["succeeded"] = self.end(Status.SUCCEEDED, DONE, preview=PREVIEW)
        found["failed"] = self.end(Status.FAILED, BROKEN)
        found["archived"] = self.batch(10, 1, fed=1)
        self.backlog.finish(NODE, *self.claim(), Status.SUCCEEDED, DONE)
        self.archive(found["archived"])
        lost = self.submit(plain(20))
        self.claim()
        self.backlog.hello(NODE, "2", pool=POOL, models=MODELS)
        found["lost once, running"], found["running"] = lost, [self.submit(plain(n)) for n in (21, 22)]
        self.claim()
        if len(self.claim(2)) != 2:
            raise RuntimeError("the worker does not hold two jobs")
        found["fetching"] = self.submit(remote(30))
        self.backlog.claim(COURIER, max_jobs=1, max_images=16)
        found["to be fetched"] = self.submit(remote(31))
        found["waiting"] = self.submit(EVERYTHING, idempotency=Idempotency("again", "ab12"))
        found["batch"] = self.batch(40, 9, fed=1)
        return found


def dump(redis: Redis) -> dict[str, Any]:
    """Return every key of Darkroom's with its kind and what it holds."""
    read = {
        "string": redis.get,
        "hash": redis.hgetall,
        "list": lambda key: redis.lrange(key, 0, -1),
        "set": lambda key: sorted(redis.smembers(key)),
        "zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        "stream": redis.xrange,
    }
    kinds = {key: redis.type(key) for key in sorted(redis.scan_iter(f"{PREFIX}*"))}
    return {key: [kind, read[kind](key)] for key, kind in kinds.items()}


def restore(redis: Redis, keys: dict[str, Any]) -> None:
    """Write what `dump` returned."""
    for key, (kind, value) in keys.items():
        match kind:
            case "string":
                redis.set(key, value)
            case "hash":
                redis.hset(key, mapping=value)
            case "list":
                redis.rpush(key, *value)
            case "set":
                redis.sadd(key, *value)
            case "zset":
                redis.zadd(key, dict(value))
            case "stream":
                for entry, fields in value:
                    redis.xadd(key, fields, id=entry)


def main() -> None:
    """Print what this version leaves."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with services.valkey() as server, server.client() as redis:
        found = Writer(redis).write()
        # A line a key, for whoever compares two versions.
        lines = [f"  {_json(key)}: {_json(value)}" for key, value in dump(redis).items()]
    sys.stdout.write(f'{{\n"found": {_json(found)},\n"keys": {{\n' + ",\n".join(lines) + "\n}}\n")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main()
