"""The supervisor on small real programs."""

import asyncio
import os
import shlex
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from shared.stack.janitor import Janitor
from shared.stack.output import Output
from shared.stack.procfile import ProcfileMissing, Program, read_procfile
from shared.stack.restarts import Restarts
from shared.stack.supervisor import Stopping, Supervisor
from tests.services import wait_until

LIMIT_S = 15
#: Prints its process id, then runs until told to stop.
ECHO_AND_WAIT = "echo pid $$; exec sleep 60"


class Collected(Output):
    """Output that remembers, and tells who waits."""

    def __init__(self, logs):
        super().__init__(logs)
        self.lines = asyncio.Queue()
        self.said = []

    def line(self, name, text):
        super().line(name, text)
        self.lines.put_nowait((name, text))

    def say(self, text, **_):
        self.said.append(text)

    async def pid(self):
        _, text = await asyncio.wait_for(self.lines.get(), LIMIT_S)
        return int(text.removeprefix("pid "))


def shell(command, name="a", *, last=False):
    return Program(name, ("/bin/sh", "-c", command), last=last)


@pytest.fixture
def output(tmp_path):
    output = Collected(tmp_path)
    yield output
    output.close()


@asynccontextmanager
async def supervisor(output, tmp_path, **options):
    janitor = Janitor()
    try:
        async with Supervisor(output=output, cwd=tmp_path, janitor=janitor, **options) as it:
            yield it
    finally:
        janitor.close()


def no_wait():
    return Restarts(first_wait_s=0.01)


def run(test):
    asyncio.run(asyncio.wait_for(test, LIMIT_S))


def is_running(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_output_is_passed_on_line_by_line_and_kept_in_a_log(output, tmp_path):
    async def test():
        async with supervisor(output, tmp_path) as it:
            it.start(shell("printf 'one\\ntwo — \\377\\nthree'; exec sleep 60"), environment=os.environ)
            assert await output.lines.get() == ("a", "one")
            assert await output.lines.get() == ("a", "two — \N{REPLACEMENT CHARACTER}")
        assert await output.lines.get() == ("a", "three")

    run(test())
    assert output.tail("a") == ["one", "two — \N{REPLACEMENT CHARACTER}", "three"]


def test_a_program_that_is_killed_is_started_again(output, tmp_path):
    async def test():
        async with supervisor(output, tmp_path) as it:
            it.start(shell(ECHO_AND_WAIT), environment=os.environ)
            first = await output.pid()
            os.kill(first, signal.SIGKILL)
            second = await output.pid()
            assert second != first
            assert output.said == ["a ended (SIGKILL); starting it again now"]

    run(test())


def test_five_deaths_within_a_minute_stop_everything(output, tmp_path):
    async def test():
        async with supervisor(output, tmp_path, make_restarts=no_wait) as it:
            it.start(shell(ECHO_AND_WAIT, "good"), environment=os.environ)
            good = await output.pid()
            it.start(shell("exit 3", "bad"), environment=os.environ)
            with pytest.raises(Stopping):
                await it.unless_stopping(asyncio.Event().wait())
        assert it.failure == ("bad", "bad keeps dying (last: exit status 3); gave up")
        assert len(output.said) == 4
        assert not is_running(good)

    run(test())


def test_what_cannot_be_started_counts_as_dead(output, tmp_path):
    async def test():
        async with supervisor(output, tmp_path, make_restarts=no_wait) as it:
            it.start(Program("gone", (str(tmp_path / "no-such-program"),)), environment=os.environ)
            with pytest.raises(Stopping):
                await it.unless_stopping(asyncio.Event().wait())
        assert "No such file" in it.failure[1]

    run(test())


def test_a_dead_programs_descendants_go_with_it(output, tmp_path):
    """Celery's pool outlives its parent and holds its output open."""

    async def test():
        async with supervisor(output, tmp_path) as it:
            it.start(shell("sleep 60 & echo pid $!; echo pid $$; wait"), environment=os.environ)
            grandchild, child = await output.pid(), await output.pid()
            os.kill(child, signal.SIGKILL)
            await output.pid()
            wait_until(lambda: not is_running(grandchild), timeout_s=LIMIT_S, what="the grandchild's end")

    run(test())


def test_programs_marked_last_stop_after_the_others(output, tmp_path):
    trap = "trap 'echo stopped; exit' TERM; echo up; while :; do sleep 0.05; done"

    async def test():
        async with supervisor(output, tmp_path) as it:
            it.start(shell(trap, "server", last=True), environment=os.environ)
            it.start(shell(trap, "client"), environment=os.environ)
            assert {await output.lines.get(), await output.lines.get()} == {("server", "up"), ("client", "up")}
        assert [output.lines.get_nowait(), output.lines.get_nowait()] == [
            ("client", "stopped"),
            ("server", "stopped"),
        ]

    run(test())


def test_a_program_that_does_not_stop_is_killed_with_its_group(output, tmp_path):
    async def test():
        async with supervisor(output, tmp_path, grace_s=(0.2, 0.2)) as it:
            it.start(shell("trap '' TERM; sleep 60 & echo pid $!; wait; wait"), environment=os.environ)
            grandchild = await output.pid()
        assert output.said == ["a took too long to stop; killed"]
        wait_until(lambda: not is_running(grandchild), timeout_s=LIMIT_S, what="the grandchild's end")

    run(test())


def test_a_signal_stops_and_a_second_one_does_not_wait(output, tmp_path):
    async def test():
        async with supervisor(output, tmp_path, grace_s=(60, 60)) as it:
            it.start(shell("trap '' TERM INT; echo up; sleep 60; sleep 60"), environment=os.environ)
            await output.lines.get()
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(Stopping):
                await it.unless_stopping(asyncio.Event().wait())
            os.kill(os.getpid(), signal.SIGINT)
        assert output.said[0].startswith("SIGTERM: stopping")

    run(test())


def test_changes_are_told_with_process_ids(output, tmp_path):
    told = []

    async def test():
        async with supervisor(output, tmp_path, on_change=told.append) as it:
            it.start(shell(ECHO_AND_WAIT), environment=os.environ)
            assert told == [{"a": await output.pid()}]
        assert told[-1] == {}

    run(test())


SUPERVISED = """
import asyncio, os, sys
from pathlib import Path
from shared.stack.janitor import Janitor
from shared.stack.output import Output
from shared.stack.procfile import Program
from shared.stack.supervisor import Supervisor

async def main():
    async with Supervisor(output=Output(Path(sys.argv[1])), cwd=Path("/"), janitor=Janitor()) as it:
        command = "sleep 60 & echo pid $!; echo pid $$; wait"
        it.start(Program("a", ("/bin/sh", "-c", command)), environment=os.environ)
        it.start(Program("b", ("/bin/sh", "-c", command), last=True), environment=os.environ)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_a_killed_supervisor_leaves_no_orphan(tmp_path):
    with psutil.Popen([sys.executable, "-c", SUPERVISED, str(tmp_path)], stdout=-1, text=True) as process:
        pids = [int(process.stdout.readline().rpartition("pid ")[2]) for _ in range(4)]
        left = [psutil.Process(pid) for pid in pids]

        process.kill()

        _, alive = psutil.wait_procs(left, timeout=LIMIT_S)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def test_the_procfile_is_read_in_order_and_run_by_the_shell(tmp_path):
    (tmp_path / "Procfile").write_text("# what runs\nweb: serve --port $PORT\n\nworker: work\n")

    web, worker = read_procfile(tmp_path / "Procfile")

    assert web == Program("web", ("/bin/sh", "-c", "exec serve --port $PORT"))
    assert worker.name == "worker"


def test_a_missing_procfile_is_told(tmp_path):
    with pytest.raises(ProcfileMissing, match="from a checkout"):
        read_procfile(tmp_path / "Procfile")


def test_the_repositorys_own_procfile_names_commands_that_exist():
    programs = read_procfile()

    assert [program.name for program in programs] == ["web", "worker", "courier", "flower"]
    for program in programs:
        command = shlex.split(program.argv[2])[1]
        assert os.access(Path(sys.executable).with_name(command), os.X_OK), command
