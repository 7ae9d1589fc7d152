"""What a worker counts of the jobs that it runs, and of the device's memory."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.job import Status
from shared.metrics import (
    BATCH_IMAGES,
    BATCH_JOBS,
    CACHE_LOOKUPS,
    CACHE_MISSES,
    IMAGES,
    RUN_SECONDS,
    STAGE_SECONDS,
    WAIT_SECONDS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.core import Metric

    from shared.backlog import Lease
    from shared.job import Result
    from worker.device import Device
    from worker.heartbeat import Held

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def claimed(leases: Sequence[Lease]) -> None:
    """Count a batch. How long a job has waited is told the first time that it runs, and then no more."""
    BATCH_JOBS.observe(len(leases))
    BATCH_IMAGES.observe(sum(lease.submission.spec.num_images for lease in leases))
    for lease in leases:
        if lease.attempts == 1:
            waited = WAIT_SECONDS.labels(lease.submission.spec.model, lease.submission.priority)
            waited.observe(max(0, lease.started_ms - lease.created_ms) / 1000)


def ended(job: Held, status: Status, result: Result) -> None:
    """Count a job whose end was told, and how long its stages took."""
    spec = job.lease.submission.spec
    RUN_SECONDS.labels(spec.model, str(spec.task), str(status)).observe(time.monotonic() - job.since)
    if status is Status.SUCCEEDED:
        IMAGES.labels(spec.model).inc(len(result.artifacts))
        for stage, seconds in result.timings.items():
            STAGE_SECONDS.labels(stage, spec.model).observe(seconds)


def looked_up(cache: str, *, found: bool) -> None:
    """Count that something kept was asked for: a model, an asset by its kind, or a prompt."""
    CACHE_LOOKUPS.labels(cache).inc()
    CACHE_MISSES.labels(cache).inc(not found)


class DeviceMemory(Collector):
    """The device's memory, looked at when Prometheus asks. On a CPU it is the process's and the machine's."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering looks at no device."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return bytes in use, bytes that torch keeps for itself, and bytes in all."""
        kinds = _of_cuda(self._device.torch_name) if self._device.torch_name.startswith("cuda") else _of_cpu()
        about = "Memory of the device that draws: in use by tensors, reserved by torch, in all."
        family = GaugeMetricFamily("darkroom_device_memory_bytes", about, labels=("device", "kind"))
        for kind, size in kinds.items():
            family.add_metric([self._device.torch_name, kind], size)
        return [family]


def _of_cuda(name: str) -> dict[str, int]:
    import torch

    _, total = torch.cuda.mem_get_info(name)
    used, reserved = torch.cuda.memory_allocated(name), torch.cuda.memory_reserved(name)
    return {"used": used, "reserved": reserved, "total": total}


def _of_cpu() -> dict[str, int]:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - read at every scrape
        resident = int(file.read().split()[1]) * _PAGE
    return {"used": resident, "reserved": resident, "total": os.sysconf("SC_PHYS_PAGES") * _PAGE}
