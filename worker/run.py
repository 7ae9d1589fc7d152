"""A batch's life: claim -> prepare -> draw -> hand over. One thread, the process's own, does all of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from shared.errors import BacklogUnavailable, ContentFiltered, DarkroomError, GenerationFailed
from shared.logs import about
from worker import measures, parameters, schedulers, traces
from worker.batch import Picture, Work, calls
from worker.finished import Finished
from worker.pipelines import DeviceBroken, Interrupted
from worker.pipelines.tasks import DRAW
from worker.prepare import prepare
from worker.preview import decode
from worker.safety import checked, screened
from worker.stages import drawing, note, staged
from worker.stopping import GivenUp
from worker.token_merging import token_merging
from worker.watchdogs import end_process

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from shared.backlog import Backlog, Lease
    from shared.settings import Settings
    from shared.storage import Storage
    from worker.delivery import Delivery
    from worker.engine import Engine, Model
    from worker.flower_events import JobEvents
    from worker.heartbeat import Heartbeat
    from worker.watchdogs import StallWatchdog

#: One `generate` claims for about so long, then lets Celery have a word.
TURN_S: Final = 60.0
#: Between two claims while deliveries are under way, and between two tries while Redis is away.
PAUSE_S: Final = 0.25
OUTAGE_PAUSE_S: Final = 1.0
#: Deliveries may take so long when the worker shuts down.
DRAIN_S: Final = 20.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Runner:
    """Claims batches and runs them until there are none."""

    node: str
    settings: Settings
    backlog: Backlog
    engine: Engine
    storage: Storage
    heartbeat: Heartbeat
    delivery: Delivery
    events: JobEvents
    stall: StallWatchdog
    stopping: threading.Event
    #: Called where a turn ends although work may be left.
    wake: Callable[[], None]
    #: Ends the process on the spot.
    end: Callable[[], None] = end_process

    def turn(self) -> None:
        """Claim and run until nothing is claimable and all is delivered, or until the turn is over."""
        deadline = time.monotonic() + TURN_S
        while not self.stopping.is_set():
            if not self._step():
                return
            if time.monotonic() > deadline:
                self.wake()
                return
        self.delivery.drain(DRAIN_S)

    def _step(self) -> bool:
        """Claim and run a batch, or wait for what is in the way of that; False where there is nothing left to do."""
        if self.delivery.full:
            log.warning("run.storage_away")
            self.stopping.wait(OUTAGE_PAUSE_S)
            return True
        try:
            claimed = self._claim()
        except BacklogUnavailable as error:
            log.warning("run.backlog_unavailable", error=str(error.__cause__ or error))
            self.stopping.wait(OUTAGE_PAUSE_S)
            return True
        if claimed:
            measures.claimed(claimed)
            traces.claimed(claimed, pool=self.settings.pool)
            self.run(claimed)
            return True
        return self.delivery.wait(PAUSE_S)

    def run(self, leases: Sequence[Lease]) -> None:
        """Draw a batch and hand its jobs over, each as soon as it is complete."""
        batch = [Work(lease, pool=self.settings.pool) for lease in leases]
        self.heartbeat.hold(batch)
        for lease in leases:
            self.events.started(lease)
        try:
            spec = leases[0].submission.spec
            with structlog.contextvars.bound_contextvars(uids=[lease.uid for lease in leases]):
                begun = time.time_ns()
                model, load_s = self.engine.model(spec.model)
                with self.engine.dressed(model, spec) as more_s:
                    note("load", batch, begun)
                    self._run_with(model, batch, load_s=load_s + more_s)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong ends these jobs, never the worker
            for work in batch:
                self._fail(work, error)
        finally:
            self.stall.rest()
            for work in batch:
                if not work.gone:
                    self.delivery.abandon(work)

    def _run_with(self, model: Model, batch: Sequence[Work], *, load_s: float) -> None:
        self._prepare(model, batch)
        size = 1 if self.engine.device.one_by_one else self.settings.batch_images
        for call in calls(model, batch, size=size):
            self._hand_back_unstarted(batch)
            self._begin(call)
            self._draw(model, call)
            for work in {picture.work: None for picture in call}:
                self._hand_over(model, work, load_s)

    def _claim(self) -> tuple[Lease, ...]:
        one_by_one = self.engine.device.one_by_one
        claim = self.backlog.claim(
            self.node,
            # What runs one by one gains nothing from a batch, and another worker may be free for the rest of it.
            max_jobs=1 if one_by_one else self.settings.batch_jobs,
            max_images=self.settings.batch_images,
            loaded_model=self.engine.loaded_model,
        )
        return claim.leases

    def _prepare(self, model: Model, batch: Sequence[Work]) -> None:
        spec = batch[0].lease.submission.spec
        evaluations = schedulers.evaluations_of(spec, model.scheduler(spec))
        for work in batch:
            work.steps = evaluations * work.lease.submission.spec.num_images
            self._fetch(model, work)

    def _fetch(self, model: Model, work: Work) -> None:
        """Get what the job draws from, and judge its prompt; where that fails, its mates go on without it."""

        def pause(seconds: float) -> None:
            if self.stopping.wait(seconds) or work.lost.is_set():
                raise GivenUp

        started = time.perf_counter()
        try:
            with about(work.lease), staged("prepare", work):
                work.inputs = prepare(
                    work.lease.submission.spec, self.storage, pause=pause, hint_kind=model.controlnets.hint_kind
                )
                model.check_prompt(work.lease.submission)
        except GivenUp:
            # Stopping or lost: it is handed back, or left alone.
            log.info("run.fetch_given_up", uid=work.lease.uid, account=work.lease.account)
        except Exception as error:  # noqa: BLE001 - one job's own must not be its mates' trouble
            self._fail(work, error)
        work.prepare_s = time.perf_counter() - started

    def _begin(self, call: Sequence[Picture]) -> None:
        """Tell that a call's jobs begin: they alone are lost should this process die over them."""
        works = list({picture.work: None for picture in call if picture.work.live})
        try:
            lost = self.backlog.begin(self.node, [work.lease for work in works])
        except BacklogUnavailable as error:
            # Should it die now, they come back as if they had not begun.
            log.warning("run.begin_unheard", error=str(error.__cause__ or error))
            return
        for work in works:
            if work.lease.uid in lost.uids:
                work.lost.set()

    def _draw(self, model: Model, call: Sequence[Picture]) -> None:
        """Draw what is still wanted; where a call with several jobs fails, each gets one of its own."""
        wanted = [picture for picture in call if picture.work.live]
        if not wanted:
            return
        works = list({picture.work: None for picture in wanted})
        started = time.perf_counter()
        try:
            self._draw_together(model, wanted)
        except DeviceBroken:
            # Every later job would fail as well. The leases are not given back: what broke the device comes back
            # alone, and not for ever.
            log.exception("run.device_broken", uids=[work.lease.uid for work in works])
            self.end()
        except Interrupted:
            log.info("run.interrupted", uids=[work.lease.uid for work in works])
        except Exception as error:  # noqa: BLE001 - one job's trouble must not be its mates'
            if len(works) == 1:
                self._fail(works[0], error)
                return
            log.warning("run.apart", uids=[work.lease.uid for work in works], error=repr(error))
            for work in works:
                self._draw(model, [picture for picture in wanted if picture.work is work])
        finally:
            for work in works:
                work.generate_s += time.perf_counter() - started

    def _draw_together(self, model: Model, pictures: Sequence[Picture]) -> None:
        works = list({picture.work: None for picture in pictures})

        def on_step() -> None:
            self.stall.step()
            stepped()
            for picture in pictures:
                picture.work.step = min(picture.work.step + 1, picture.work.steps)
            if not any(picture.work.live for picture in pictures):
                raise Interrupted

        self.stall.step()
        spec = pictures[0].work.lease.submission.spec
        shots = [replace(picture.shot, watch=self._watch(model, picture)) for picture in pictures]
        with token_merging(model, spec), drawing(works) as stepped:
            images = DRAW[spec.task](model, spec, shots, on_step=on_step)
        with staged("safety", *works):
            for picture, image in zip(pictures, images, strict=True):
                self._keep(model, picture, image)

    def _keep(self, model: Model, picture: Picture, image: Image) -> None:
        work = picture.work
        found = screened(model, work.lease.submission.spec, image)
        if found.flagged:
            log.info("run.flagged", uid=work.lease.uid, account=work.lease.account, image=picture.index)
            work.flagged.add(picture.index)
        work.images[picture.index] = found.image

    def _watch(self, model: Model, picture: Picture) -> Callable[[int, Any], None] | None:
        """Return what keeps previews of a picture, None where its job wants none."""
        work, spec = picture.work, picture.work.lease.submission.spec
        if spec.preview_every is None:
            return None
        every, last = spec.preview_every, work.steps // spec.num_images

        def watch(step: int, latents: Any) -> None:
            if work.live and step % every == 0 and step < last:
                shown = screened(model, spec, decode(model, latents)).image
                self.delivery.preview(work, picture.index, step, shown)

        return watch

    def _hand_over(self, model: Model, work: Work, load_s: float) -> None:
        spec = work.lease.submission.spec
        if not work.live or len(work.images) < spec.num_images:
            return
        work.gone = True
        if work.flagged and work.lease.submission.flagged_fails:
            self.delivery.fail(work, ContentFiltered())
            return
        self.delivery.hand_over(
            Finished(
                job=work,
                images=[work.images[index] for index in range(spec.num_images)],
                flagged=frozenset(work.flagged),
                parameters=parameters.effective(
                    spec,
                    schedulers.effective(model.scheduler(spec)),
                    inputs=work.inputs.told,
                    safety=checked(model, spec),
                ),
                timings={"load": load_s, **work.timings},
                engine=model.fingerprint,
            )
        )

    def _hand_back_unstarted(self, batch: Sequence[Work]) -> None:
        if not self.stopping.is_set():
            return
        unstarted = [work for work in batch if work.live and not work.step]
        if not unstarted:
            return
        try:
            self.backlog.handback(self.node, [work.lease for work in unstarted])
        except BacklogUnavailable:
            log.warning("run.handback_failed")  # their leases run out instead
        for work in unstarted:
            work.gone = True
            self.heartbeat.release(work)

    def _fail(self, work: Work, error: Exception) -> None:
        if not work.live:
            return
        work.gone = True
        log.error("run.failed", uid=work.lease.uid, account=work.lease.account, exc_info=error)
        self.delivery.fail(work, error if isinstance(error, DarkroomError) else GenerationFailed())
