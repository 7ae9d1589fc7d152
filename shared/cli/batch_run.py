"""A batch on its way to its end: followed, and its images fetched as they come."""

import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from shared.batch import BatchStatus
from shared.cli.api import ENDED, Api, Refused, TooOften, Unreachable
from shared.cli.batch_folder import BatchFolder
from shared.cli.batch_view import BatchView
from shared.job import Status

POLL_S: Final = 1.0
#: For so long a service that does not answer is waited for, at most so long between two tries.
PATIENCE_S: Final = 600.0
LONGEST_PAUSE_S: Final = 15.0
#: Lines whose images are fetched between two looks at the batch, and images that are fetched side by side.
LINES_AT_ONCE: Final = 256
FETCHES: Final = 8
#: Images that could not be fetched are tried again so often, once the batch is over.
ATTEMPTS: Final = 3

T = TypeVar("T")
#: A line, whether it has ended, and what is fetched for it.
Seen = tuple[int, bool, Sequence[Future[None]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A batch that is over, and how many of its lines are here, and how many could not be fetched."""

    batch: Mapping[str, Any]
    fetched: int
    missing: int

    @property
    def is_whole(self) -> bool:
        """Whether every line was drawn and is here."""
        return bool(self.fetched == self.batch["total"])


class BatchRun:
    """Follows one batch. `Unreachable` where the service stays away for ten minutes."""

    def __init__(
        self,
        api: Api,
        batch: Mapping[str, Any],
        folder: BatchFolder,
        view: BatchView,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api = api
        self._path = f"/v1/batches/{batch['id']}"
        self._total = batch["total"]
        self._folder = folder
        self._view = view
        self._sleep = sleep
        #: All lines up to this one have ended, and what there is of them is here.
        self._settled = 0
        self._here: set[int] = set()
        self._failed: set[int] = set()

    def follow(self) -> Ended:
        """Fetch images until the batch is over and all of them are here; write the table of results."""
        while not BatchStatus(self._look()["status"]).is_over:
            if not self._fetch_what_is_there():
                self._sleep(POLL_S)
        return self._finish()

    def _finish(self) -> Ended:
        """Go through all of it once more: what failed at first may have been retried meanwhile."""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(POLL_S * attempt)
            self._settled = 0
            self._failed.clear()
            self._fetch_what_is_there()
            if not self._failed:
                break
        self._patiently(lambda: self._folder.write_results(self._manifest(after=0), total=self._total))
        return Ended(batch=self._look(), fetched=len(self._here), missing=len(self._failed))

    def _look(self) -> Mapping[str, Any]:
        batch = self._patiently(lambda: self._api.get(self._path))
        self._view.show(batch, fetched=len(self._here))
        return batch

    def _fetch_what_is_there(self) -> int:
        """Fetch all images that are there and not here, looking at the batch now and then; return how many lines'."""
        before, after = len(self._here), self._settled
        while True:
            last = self._patiently(partial(self._fetch_some, after))
            if last is None:
                return len(self._here) - before
            after = last
            self._look()

    def _fetch_some(self, after: int) -> int | None:
        """Fetch what is missing of some hundred lines; return the last of them, None where there are no more."""
        with ThreadPoolExecutor(FETCHES, thread_name_prefix="fetch") as pool:
            try:
                seen, more = self._begin_fetching(pool, after)
                settled = self._await(seen)
            except BaseException:  # Ctrl-C too: what has not begun is not begun any more
                pool.shutdown(cancel_futures=True)
                raise
        if after == self._settled:
            self._settled = max(settled, after)
        return seen[-1][0] if more else None

    def _begin_fetching(self, pool: ThreadPoolExecutor, after: int) -> tuple[list[Seen], bool]:
        seen: list[Seen] = []
        wanted = 0
        with closing(self._manifest(after=after)) as results:
            for result in results:
                if _is_to_come(result):
                    break
                fetches = [pool.submit(self._fetch, url, path) for url, path in self._missing(result)]
                seen.append((result["line"], _has_ended(result), fetches))
                wanted += bool(fetches)
                if wanted == LINES_AT_ONCE:
                    return seen, True
        return seen, False

    def _await(self, seen: Sequence[Seen]) -> int:
        """Wait for images; return the line up to which all that have ended are here."""
        settled, unbroken = 0, True
        for line, has_ended, fetches in seen:
            came = all(self._came(fetch) for fetch in fetches)
            if fetches:
                (self._here if came else self._failed).add(line)
                self._view.fetched(len(self._here))
            unbroken = unbroken and has_ended and came
            settled = line if unbroken else settled
        return settled

    @staticmethod
    def _came(fetch: Future[None]) -> bool:
        """Wait for an image; False where it could not be fetched this time."""
        try:
            fetch.result()
        except (Refused, Unreachable):
            return False
        return True

    def _missing(self, result: Mapping[str, Any]) -> list[tuple[str, Path]]:
        """Return links and places of a line's images that are not here."""
        if result["status"] != Status.SUCCEEDED:
            return []
        pairs = zip(result["outputs"], self._folder.files(result, total=self._total), strict=True)
        missing = [(output["url"], path) for output, path in pairs if not path.exists()]
        if not missing:
            self._here.add(result["line"])
        return missing

    def _fetch(self, url: str, path: Path) -> None:
        self._folder.write(path, self._api.fetch(url))

    def _manifest(self, *, after: int) -> Generator[dict[str, Any], None, None]:
        for line in self._api.lines(f"{self._path}/results", cursor=after, format="jsonl"):
            yield json.loads(line)

    def _patiently(self, call: Callable[[], T]) -> T:
        """Return what a call returns, however often the service does not answer at first."""
        since, pause_s = time.monotonic(), 1.0
        while True:
            try:
                return call()
            except TooOften as error:
                self._sleep(error.pause_s)
            except Unreachable:
                if time.monotonic() - since > PATIENCE_S:
                    raise
                self._view.says("no answer, trying again")
                self._sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _is_to_come(result: Mapping[str, Any]) -> bool:
    """Whether a line is no job yet; those after it are none either."""
    return result["uid"] is None and result["status"] == Status.QUEUED


def _has_ended(result: Mapping[str, Any]) -> bool:
    """Whether nothing more comes of a line; one whose job was erased has no status."""
    return result["status"] is None or result["status"] in ENDED
