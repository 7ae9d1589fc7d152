"""How the tests are shared out among processes: whole files, the longest first, a process more than there are cores."""

import os

import pytest
from xdist.scheduler import LoadFileScheduling

#: Run by one process, on the one stack that they share.
ONE_STACK = tuple(f"tests/acceptance/test_{name}.py" for name in ("main_job", "up", "one_picture", "readme"))
#: What takes longest comes first: begun last, it would leave the other cores idle.
LONG = (
    *ONE_STACK,
    "tests/acceptance/test_crashes.py",
    "tests/demo_model/test_whole_run.py",
    "tests/contract/test_pipeline_images.py",
    "tests/contract/test_failover.py",
    "tests/contract/test_worker_processes.py",
    "tests/contract/test_parity.py",
    "tests/contract/test_controlnet_parity.py",
    "tests/acceptance/test_demo.py",
    "tests/contract/test_assets.py",
    "tests/contract/test_samplers.py",
    "tests/contract/test_clip_guidance.py",
    "tests/contract/test_loading.py",
    "tests/dialects/test_schemathesis.py",
    "tests/contract/test_backlog_stateful.py",
    "tests/contract/test_pipeline.py",
    "tests/dialects/test_modelslab.py",
    "tests/contract/test_api_live.py",
)


class LongestFirst(LoadFileScheduling):
    """Files as a whole, as they were collected; those that share a stack are one."""

    def __init__(self, config, log=None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # by how many tests they have, as if all took as long

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def unit_of(nodeid: str) -> str:
    """Return what a test is kept together with, by name."""
    file = nodeid.partition("::")[0]
    return "one stack" if file in ONE_STACK else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the order of all others, and inside of files, stays."""
    places = {unit_of(file): place for place, file in reversed([*enumerate(LONG)])}
    items.sort(key=lambda item: places.get(unit_of(item.nodeid), len(LONG)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log) -> LoadFileScheduling | None:
    """Share out so if files are to be kept together."""
    return LongestFirst(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: many tests wait for processes of their own."""
    return len(os.sched_getaffinity(0)) + 1
