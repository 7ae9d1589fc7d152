"""The `darkroom` command, against a service that answers from a script."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import click
import pytest
import structlog
from click.testing import CliRunner

from shared.accounts import Accounts
from shared.cli import main
from shared.cli.api import Api, Unreachable, read_events
from shared.errors import Unauthorized
from shared.stack.folder import Folder, Running

JOB = {
    "uid": 7,
    "status": "succeeded",
    "track_id": None,
    "progress": {"step": 3, "steps": 3, "fraction": 1.0},
    "outputs": [{"index": 0, "url": "http://x/a", "seed": 1, "width": 8, "height": 8, "content_type": "image/png"}],
    "error": None,
    "links": {"self": "http://x/v1/jobs/7"},
}
QUEUED = {**JOB, "status": "queued", "outputs": []}


def events(*states):
    frames = ["retry: 2000\n\n"]
    for number, state in enumerate(states):
        data = json.dumps({"uid": 7, **state})
        frames.append(f"id: {number}-0\nevent: e\ndata: {data}\n\n:\n\n")
    return "".join(frames).encode()


class Service:
    """Answers (method, path) in turn from lists; the last answer stays."""

    def __init__(self):
        self.answers = {}
        self.requests = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                service.requests.append((self.command, self.path, dict(self.headers), body))
                queue = service.answers[self.command, self.path]
                status, answer = queue.pop(0) if len(queue) > 1 else queue[0]
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET  # noqa: N815 - the standard library's name

            def log_message(self, *_):
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def on(self, method, path, *answers):
        self.answers[method, path] = list(answers)


@pytest.fixture
def service():
    service = Service()
    thread = threading.Thread(target=service.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield service
    service.server.shutdown()
    thread.join()
    service.server.server_close()


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in ("REDIS_URL", "DARKROOM_DATA_DIR", "DARKROOM_URL", "DARKROOM_KEY"):
        monkeypatch.delenv(variable, raising=False)

    def run(*arguments, **environment):
        return CliRunner().invoke(main, arguments, env=environment)

    return run


@pytest.fixture
def client(service):
    return {"DARKROOM_URL": service.url, "DARKROOM_KEY": "dr_key"}


def test_submit_prints_the_uid(run, service, client):
    service.on("POST", "/v1/jobs", (202, QUEUED))

    result = run("submit", "a red circle", "--steps", "3", "--guidance", "2.5", "--track-id", "mine", **client)

    assert result.exit_code == 0, result.output
    assert "job 7: queued" in result.stdout
    (_, _, headers, body), *_ = service.requests
    assert headers["Authorization"] == "Bearer dr_key"
    assert json.loads(body) == {
        "prompt": "a red circle",
        "num_inference_steps": 3,
        "guidance_scale": 2.5,
        "track_id": "mine",
    }


def test_submit_follows_the_job_and_saves_its_image(run, service, client, tmp_path):
    service.on("POST", "/v1/jobs", (202, QUEUED))
    service.on(
        "GET",
        "/v1/jobs/7/events",
        (
            200,
            events(
                {"status": "queued", "position": 2},
                {"status": "running", "progress": {"step": 1, "steps": 3}},
                {"status": "succeeded"},
            ),
        ),
    )
    service.on("GET", "/v1/jobs/7", (200, JOB))
    service.on("GET", "/v1/jobs/7/images/0", (200, b"PNG"))

    result = run("submit", "a red circle", "-o", "out.png", "--json", **client)

    assert result.exit_code == 0, result.output
    assert (tmp_path / "out.png").read_bytes() == b"PNG"
    assert json.loads(result.stdout) == JOB


def test_several_images_are_numbered(run, service, client, tmp_path):
    images = [{**JOB["outputs"][0], "index": index, "content_type": "image/jpeg"} for index in range(2)]
    service.on("POST", "/v1/jobs", (202, QUEUED))
    service.on("GET", "/v1/jobs/7/events", (200, events({"status": "succeeded"})))
    service.on("GET", "/v1/jobs/7", (200, {**JOB, "outputs": images}))
    service.on("GET", "/v1/jobs/7/images/0", (200, b"0"))
    service.on("GET", "/v1/jobs/7/images/1", (200, b"1"))

    result = run("submit", "two", "--wait", **client)

    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7-0.jpg", "7-1.jpg"]


def test_a_job_that_fails_is_told_with_its_reason(run, service, client):
    failed = {**QUEUED, "status": "failed", "error": {"code": "out_of_memory", "message": "too big"}}
    service.on("POST", "/v1/jobs", (202, QUEUED))
    service.on("GET", "/v1/jobs/7/events", (200, events({"status": "failed"})))
    service.on("GET", "/v1/jobs/7", (200, failed))

    result = run("submit", "x", "--wait", **client)

    assert result.exit_code == 1
    assert "out_of_memory: too big" in result.stderr


def test_a_refusal_names_every_field(run, service, client):
    problem = {
        "code": "invalid_value",
        "detail": "must be a multiple of 8",
        "errors": [
            {"field": "width", "code": "invalid_value", "detail": "must be a multiple of 8"},
            {"field": "prompt", "code": "missing_field", "detail": "must not be empty"},
        ],
    }
    service.on("POST", "/v1/jobs", (400, problem))

    result = run("submit", "x", **client)

    assert result.exit_code == 1
    assert "width: must be a multiple of 8" in result.stderr
    assert "prompt: must not be empty" in result.stderr


def test_a_service_that_does_not_answer_has_its_own_exit_status(run):
    result = run("submit", "x", "--url", "http://127.0.0.1:9", "--key", "dr_key")

    assert result.exit_code == 3
    assert result.stderr == "Error: nothing answers at http://127.0.0.1:9: the connection was refused\n"


def test_without_a_service_it_says_how_to_get_one(run):
    result = run("models", "list")

    assert result.exit_code == 1
    assert "start one with `darkroom up`" in result.stderr


def test_a_running_stack_is_found_by_its_data_directory(run, service, tmp_path):
    demo = {"name": "demo", "aliases": ["a"], "base": "demo", "description": "Tiny."}
    neon = {"kind": "textual_inversion", "name": "neon", "aliases": [], "base": "demo", "description": "Bright."}
    service.on("GET", "/v1/models", (200, {"data": [demo]}))
    service.on("GET", "/v1/assets", (200, {"data": [neon]}))
    folder = Folder(tmp_path / ".darkroom")
    with folder.locked():
        folder.announce(Running(pid=1, api_url=service.url, flower_url="", redis_url=""))
        folder.keep(account={"key": "dr_local"})

        result = run("models", "list")

    assert result.exit_code == 0, result.output
    assert "demo" in result.stdout
    assert "Tiny." in result.stdout
    assert "textual inversion" in result.stdout
    assert service.requests[0][2]["Authorization"] == "Bearer dr_local"


def test_the_key_of_a_local_stack_is_not_sent_elsewhere(run, service, tmp_path):
    folder = Folder(tmp_path / ".darkroom")
    with folder.locked():
        folder.keep(account={"key": "dr_local"})

        result = run("models", "list", "--url", service.url)

    assert result.exit_code == 1
    assert "an API key is needed" in result.stderr
    assert service.requests == []


def test_keys_create_prints_everything_as_json(run, valkey_server, valkey):
    result = run("keys", "create", "alice", "--plan", "free", "--credits", "5", "--json", REDIS_URL=valkey_server.url)

    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    assert set(made) == {
        *("account", "name", "plan", "key", "client_token", "secret", "webhook_secret"),
        *("prefix", "scopes", "expires_ms"),
    }
    assert made["plan"] == "free"
    assert valkey.hget(f"{{dr}}:a:{made['account']}", "balance") == "5000"


def test_keys_create_shows_every_secret_as_text(run, valkey_server, valkey):
    result = run("keys", "create", "alice", REDIS_URL=valkey_server.url)

    assert result.exit_code == 0, result.output
    for part in ("alice (id 1, plan paid)", "dr_", "whsec_", "cannot be shown again"):
        assert part in result.stdout


def test_keys_create_notes_where_callbacks_go_and_who_may_have_a_demo(run, valkey_server, valkey):
    urls = ("--notify", "https://shop.example/notify", "--upload", "https://shop.example/upload")
    result = run("keys", "create", "visitors", "--demo", *urls, "--json", REDIS_URL=valkey_server.url)

    assert result.exit_code == 0, result.output
    token = json.loads(result.stdout)["client_token"]
    assert valkey.hmget(f"{{dr}}:client:{token}", ["notify", "upload"]) == [urls[1], urls[3]]
    assert valkey.get("{dr}:demo") == token


@pytest.mark.parametrize("option", ["--notify", "--upload"])
@pytest.mark.parametrize("url", ["ftp://shop.example/", "http://127.0.0.1/", "no url"])
def test_keys_create_refuses_addresses_that_are_never_called(run, valkey_server, option, url):
    result = run("keys", "create", "alice", option, url, REDIS_URL=valkey_server.url)

    assert result.exit_code == 1
    assert url in result.stderr


def test_keys_have_names_scopes_and_an_end(run, valkey_server, valkey):
    options = ("--name", "till 3", "--scopes", "read, admin", "--expires", "90d")
    made = json.loads(run("keys", "create", "alice", *options, "--json", REDIS_URL=valkey_server.url).stdout)
    run("keys", "create", "bob", REDIS_URL=valkey_server.url)

    (listed,) = json.loads(run("keys", "ls", "alice", "--json", REDIS_URL=valkey_server.url).stdout)
    everyone = run("keys", "ls", REDIS_URL=valkey_server.url, COLUMNS="200").stdout

    assert made["scopes"] == ["read", "admin"]
    assert made["prefix"] == made["key"][:10]
    assert 89 * 86_400_000 < listed["expires_ms"] - listed["created_ms"] < 91 * 86_400_000
    assert listed == {
        "prefix": made["prefix"],
        "account": made["account"],
        "account_name": "alice",
        "name": "till 3",
        "scopes": ["read", "admin"],
        "created_ms": listed["created_ms"],
        "used_ms": None,
        "expires_ms": made["expires_ms"],
    }
    for part in (made["prefix"], "till 3", "bob", "submit,read"):
        assert part in everyone
    assert made["key"] not in everyone


def test_keys_revoke_ends_a_key_and_its_client(run, valkey_server, valkey):
    made = json.loads(run("keys", "create", "alice", "--json", REDIS_URL=valkey_server.url).stdout)

    first = run("keys", "revoke", made["prefix"], REDIS_URL=valkey_server.url)
    again = run("keys", "revoke", made["prefix"], REDIS_URL=valkey_server.url)

    assert (first.exit_code, again.exit_code) == (0, 1)
    assert "There is no such key" in again.stderr
    assert json.loads(run("keys", "ls", "--json", REDIS_URL=valkey_server.url).stdout) == []
    with pytest.raises(Unauthorized):
        Accounts(valkey).authenticate(made["key"])
    with pytest.raises(Unauthorized):
        Accounts(valkey).log_in(made["client_token"], made["secret"])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--scopes", "submit,fly"), ("--scopes", ""), ("--expires", "soon"), ("--expires", "0d"),
        ("--expires", "2020-01-31"), ("--expires", "90"),
    ],
)  # fmt: skip
def test_keys_create_refuses_what_it_cannot_read(run, valkey_server, valkey, option, value):
    result = run("keys", "create", "alice", option, value, REDIS_URL=valkey_server.url)

    assert result.exit_code == 2
    assert option in result.stderr
    assert not valkey.exists("{dr}:accounts")


def test_keys_create_tells_that_redis_is_away(run):
    result = run("keys", "create", "alice", REDIS_URL="redis://127.0.0.1:9/0")

    assert result.exit_code == 3
    assert "Redis cannot be reached" in result.stderr
    assert "127.0.0.1:9" in result.stderr


def test_a_wrong_setting_is_named(run):
    result = run("up", WEB_THREADS="many")

    assert result.exit_code == 1
    assert result.stderr == "Error: WEB_THREADS: must be a whole number, not 'many'\n"


def test_a_stream_that_breaks_is_taken_up_where_it_was_left(service, monkeypatch):
    monkeypatch.setattr("shared.cli.api._RECONNECT_AFTER_S", 0.01)
    service.on(
        "GET",
        "/v1/jobs/7/events",
        (200, events({"status": "queued"}, {"status": "running"})),
        (503, {"detail": "away", "code": "backlog_unavailable"}),
        (200, events({"status": "succeeded"})),
    )
    with Api(service.url, "dr_key") as api:
        states = [event["status"] for event in api.follow(7)]

    assert states == ["queued", "running", "succeeded"]
    assert [headers.get("Last-Event-ID") for _, _, headers, _ in service.requests] == [None, "1-0", "1-0"]


def test_following_ends_when_the_client_is_closed(service):
    service.on("GET", "/v1/jobs/7/events", (200, events({"status": "queued"})))
    api = Api(service.url, "dr_key")
    following = api.follow(7)
    next(following)
    api.close()

    with pytest.raises(Unreachable):
        list(following)


def test_events_are_read_with_their_ids():
    lines = b"retry: 1\n\nid: 1-0\nevent: a\ndata: {}\n\n: heartbeat\n\nid: 2-0\ndata: [1,\ndata: 2]\n\n".split(b"\n")

    assert list(read_events(lines)) == [("1-0", {}), ("2-0", [1, 2])]


def test_log_lines_do_not_stand_in_what_a_command_answers(monkeypatch):
    @click.command
    def speak():
        structlog.get_logger().warning("said.aside")
        click.echo("answer")

    monkeypatch.setitem(main.commands, "speak", speak)
    kept = structlog.get_config()
    structlog.reset_defaults()
    try:
        result = CliRunner().invoke(main, ["speak"])
    finally:
        structlog.configure(**kept)

    assert result.stdout == "answer\n"
    assert "said.aside" in result.stderr
