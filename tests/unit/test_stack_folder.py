import json
import os
import stat

import pytest

from shared.stack.folder import AlreadyRunning, Folder, Running


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "data")


def running(**changes):
    given = {"pid": os.getpid(), "api_url": "http://a", "flower_url": "http://f", "redis_url": "redis://r"}
    return Running(**{**given, **changes})


def test_a_second_stack_on_the_same_folder_is_refused_with_the_first_ones_address(folder):
    with folder.locked():
        folder.announce(running(api_url="http://127.0.0.1:8000"))

        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}, API at http://127.0.0.1:8000"):
            folder.locked().__enter__()


def test_the_folder_is_free_again_afterwards(folder):
    with folder.locked():
        pass

    with folder.locked() as descriptor:
        assert descriptor > 0


def test_what_runs_is_known_only_while_the_lock_is_held(folder):
    assert folder.running() is None
    with folder.locked():
        folder.announce(running(processes={"web": 1}))
        assert folder.running() == running(processes={"web": 1})
    assert (folder.path / "stack.json").exists()  # as after a kill -9

    assert folder.running() is None


def test_secrets_are_kept_and_are_the_owners_alone(folder):
    folder.path.mkdir()

    first = folder.secret("valkey_password")
    folder.keep(account={"key": "dr_x"})

    assert Folder(folder.path).secret("valkey_password") == first
    assert Folder(folder.path).credentials()["account"] == {"key": "dr_x"}
    path = folder.path / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["valkey_password"] == first


def test_wiping_leaves_the_lock_alone(folder):
    with folder.locked():
        folder.keep(a=1)
        (folder.logs / "web.log").write_text("old")

        folder.wipe()

        assert sorted(p.name for p in folder.path.iterdir()) == ["logs", "stack.lock"]
        assert not list(folder.logs.iterdir())
