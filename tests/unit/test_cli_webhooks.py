"""`darkroom webhooks` and `darkroom queue`, with a real Valkey and a real receiver."""

import json

import pytest
from click.testing import CliRunner
from standardwebhooks import Webhook

from shared.accounts import Accounts
from shared.backlog import Gate, Operations
from shared.celery_app import SilentBell
from shared.cli import main
from tests.services import Reply, receiver


@pytest.fixture
def run(valkey, valkey_server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", valkey_server.url)
    monkeypatch.setenv("OUTBOUND_ALLOW", "127.0.0.0/8")
    return lambda *words: CliRunner().invoke(main, list(words))


@pytest.fixture
def server():
    with receiver() as running:
        yield running


def test_a_sample_is_signed_with_the_accounts_secrets(run, valkey, server):
    made = Accounts(valkey).create_key("alice")

    shown = run("webhooks", "test", f"{server.url}/hook", "--account", "alice")

    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith("200 after ")
    (call,) = server.requests
    assert Webhook(made.webhook_secret).verify(call.body, call.headers)["event"] == "succeeded"


def test_a_sample_that_is_not_taken_is_a_failure(run, server):
    server.replies.append(Reply(status=500, body=b"oh no"))

    shown = run("webhooks", "test", f"{server.url}/hook")

    assert shown.exit_code == 1
    assert "signed with whsec_" in shown.output
    assert "oh no" in shown.output
    assert run("webhooks", "test", "http://10.0.0.1/").exit_code == 1


def test_a_secret_is_rotated_and_the_old_one_retired(run, valkey):
    accounts = Accounts(valkey)
    made = accounts.create_key("alice")

    fresh = run("webhooks", "secret", "rotate", "alice").output.strip()

    assert accounts.get(made.account).webhook_secrets == (fresh, made.webhook_secret)
    assert run("webhooks", "secret", "retire", "alice").exit_code == 0
    assert accounts.get(made.account).webhook_secrets == (fresh,)
    refused = run("webhooks", "secret", "rotate", "bob")
    assert refused.exit_code == 1
    assert "There is no account called bob." in refused.output


def test_a_pool_is_paused_drained_and_resumed(run, valkey):
    operations = Operations(valkey, SilentBell())
    for word, gate in (("pause", Gate.PAUSED), ("drain", Gate.DRAINING)):
        assert run("queue", word, "default").exit_code == 0
        assert operations.shut_pools() == {"default": gate}
    assert run("queue", "pause", "default/demo").exit_code == 0
    found = json.loads(run("queue", "ls", "--json").output)
    assert found["pools"] == {"default": "draining"}
    assert [(lane["model"], lane["gate"]) for lane in found["lanes"]] == [("demo", "paused")]
    assert "demo" in run("queue", "ls").output

    assert run("queue", "resume", "default/demo").exit_code == 0
    assert run("queue", "resume", "default").exit_code == 0

    assert json.loads(run("queue", "ls", "--json").output) == {"lanes": [], "pools": {}}
    assert run("queue", "pause", "/demo").exit_code == 2


@pytest.mark.parametrize("word", ["pause", "drain", "resume"])
def test_a_pool_that_nobody_has_heard_of_is_refused_by_name(run, valkey, word):
    Accounts(valkey).create_key("studio", pool="large")

    refused = run("queue", word, "defualt")

    assert refused.exit_code == 1
    assert "there is no pool 'defualt'" in refused.output
    assert "known are default, ingest, large" in refused.output
    assert json.loads(run("queue", "ls", "--json").output) == {"lanes": [], "pools": {}}
    assert run("queue", word, "large").exit_code == 0, "no worker of it lives, but an account is in it"


def test_what_an_operator_shut_can_be_opened_when_nothing_else_is_left_of_the_pool(run, valkey):
    Operations(valkey, SilentBell()).set_gate("gone", Gate.PAUSED)

    assert run("queue", "resume", "gone").exit_code == 0
    assert run("queue", "resume", "gone").exit_code == 1
