"""The guides: what they show is executed as it stands, their links lead somewhere, and the index knows every page."""

import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest
from redis import Redis
from standardwebhooks import WebhookVerificationError

from shared.backlog import Backlog
from shared.celery_app import SilentBell
from shared.outbox import signed_headers
from shared.webhook_secrets import new_secret
from tests import services
from tests.conftest import need
from tests.contract.test_backlog import Bench
from tests.unit.test_cli_operators import desk  # noqa: F401 - a fixture

DOCS = Path(__file__).resolve().parents[2] / "docs"
GUIDES = {name: (DOCS / f"{name}.md").read_text() for name in ("operators-guide", "troubleshooting", "webhooks")}
#: Why a block is not executed.
REASONS = {
    *("docker", "kubectl", "changes the host", "needs the host that the block above makes"),
    *("starts the whole service", "waits for a worker"),  # tests/acceptance and tests/dialects do
    *("is for a shell's own file", "reads logs of your own", "names a picture and a model of your own"),
}
PAGES = {
    str(path.relative_to(DOCS.parent)): path.read_text() for path in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]
}
#: Blocks with a name are run by tests/acceptance/test_readme.py, by this file, and by test_manifests.py;
#: those of docs/cli.md by test_cli_page.py.
RUN_ELSEWHERE = {"docs/cli.md"}
COMMANDS = [
    pytest.param(block, id=f"{name}: {text[: match.start()].rpartition('## ')[2].splitlines()[0]}")
    for name, text in PAGES.items()
    if name not in RUN_ELSEWHERE
    for match in re.finditer(r"<!-- tested -->\n```sh\n(.*?)```", text, re.DOTALL)
    for block in match.groups()
]


def block(guide, name):
    (text,) = re.findall(rf"<!-- tested: {name} -->\n```[a-z]+\n(.*?)```", GUIDES[guide], re.DOTALL)
    return text


@pytest.mark.parametrize("guide", GUIDES)
def test_every_block_of_code_is_executed_or_says_why_not(guide):
    for before, language in re.findall(r"(?:^|\n)([^\n]*)\n```([a-z]+)\n", GUIDES[guide]):
        if language == "json":
            continue
        if before.startswith("<!-- not executed: "):
            assert before.removeprefix("<!-- not executed: ").removesuffix(" -->") in REASONS
        else:
            assert re.fullmatch(r"<!-- tested(: [a-z]+)? -->", before), before


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_every_page_is_executed_or_says_why_not(page):
    blocks = re.findall(r"(?:^|\n)([^\n]*)\n```([a-z]*)\n(.*?)```", PAGES[page], re.DOTALL)
    for before, language, text in blocks:
        if language not in {"sh", "bash", "console"} and not re.match(r"(\$ |darkroom |curl |make )", text):
            continue
        why = re.fullmatch(r"<!-- not executed: (.*) -->", before)
        assert why[1] in REASONS if why else re.fullmatch(r"<!-- tested(: [a-z]+)? -->", before), f"{page}: {text}"


@pytest.mark.parametrize("commands", COMMANDS)
def test_commands_work(desk, commands):  # noqa: F811
    uid, prefix = str(desk.bench.submit()), ""

    for line in commands.splitlines():
        program, *words = shlex.split(line, comments=True)
        assert program == "darkroom"
        told = desk.run(*({"UID": uid, "PREFIX": prefix}.get(word, word) for word in words), DEVICE="cpu")
        found = re.search(r"dr_\S{7}", told)
        prefix = found[0] if found else prefix


def test_a_backup_is_restored(tmp_path):
    server, cli, port = need("redis-server"), need("redis-cli"), str(services.free_port())
    environment = {"PATH": f"{Path(server).parent}:{Path(cli).parent}:/usr/bin:/bin", "NEW_PORT": port}

    def bash(name, **more):
        script = block("operators-guide", name)
        command = ["bash", "-euo", "pipefail", "-c", script]
        subprocess.run(command, cwd=tmp_path, env={**environment, **more}, check=True, timeout=120)

    with services.redis_server(server, aof=True) as old:
        bench = Bench(old.client())
        uids = [bench.submit().uid for _ in range(3)]
        bash("backup", REDIS_URL=old.url)
    try:
        bash("restore")
        with Redis(port=int(port), decode_responses=True) as redis:
            backlog = Backlog(redis, SilentBell())
            found = [backlog.read(uid, account=bench.account) for uid in uids]
            keeps = redis.config_get("appendonly")["appendonly"]
    finally:
        subprocess.run([cli, "-p", port, "shutdown", "nosave"], check=True)

    assert [str(job.status) for job in found] == ["queued"] * 3
    assert keeps == "yes"


def in_python(folder, case):
    scope = {}
    exec(block("webhooks", "python"), scope)
    return scope["is_ours"](case["secret"], case["headers"], case["body"].encode())


def by_library(folder, case):
    scope = {}
    exec(block("webhooks", "library"), scope)
    try:
        return scope["read"](case["secret"], case["headers"], case["body"].encode()) == json.loads(case["body"])
    except WebhookVerificationError:
        return False


def in_node(folder, case):
    call = "import fs from 'node:fs'; const c = JSON.parse(fs.readFileSync(0));"
    call += "console.log(isOurs(c.secret, c.headers, Buffer.from(c.body)));"
    (folder / "receiver.mjs").write_text(block("webhooks", "node") + call)
    return json.loads(run([need("node", "nodejs"), "receiver.mjs"], folder, case))


def build_go(folder):
    """Compile it, which may take longer than a signature is good for."""
    go = need("go", "golang-go")
    (folder / "receiver.go").write_text(block("webhooks", "go"))
    (folder / "main.go").write_text(
        'package main\nimport ("encoding/json"; "fmt"; "net/http"; "os")\n'
        "func main() {\nvar c struct { Secret string; Headers map[string]string; Body string }\n"
        "if err := json.NewDecoder(os.Stdin).Decode(&c); err != nil { panic(err) }\n"
        "h := http.Header{}\nfor name, value := range c.Headers { h.Set(name, value) }\n"
        "fmt.Println(IsOurs(c.Secret, h, []byte(c.Body)))\n}\n"
    )
    environment = {"HOME": str(folder), **os.environ, "GO111MODULE": "off"}
    subprocess.run([go, "build", "-o", "receiver", "receiver.go", "main.go"], cwd=folder, check=True, env=environment)


def in_go(folder, case):
    return json.loads(run([folder / "receiver"], folder, case))


def run(command, folder, case):
    done = subprocess.run(command, cwd=folder, input=json.dumps(case), capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("verify", [by_library, in_python, in_node, in_go])
def test_receivers_tell_our_calls_from_others(verify, tmp_path, monkeypatch):
    if verify is in_go:
        build_go(tmp_path)
    old, secret = new_secret(), new_secret()
    body = '{"uid": 1, "track_id": "Bär"}'
    an_hour_ago = time.time() - 3600
    headers = signed_headers("msg_1", body.encode(), webhook_secrets=[secret, old])
    monkeypatch.setattr(time, "time", lambda: an_hour_ago)
    late = signed_headers("msg_1", body.encode(), webhook_secrets=[secret])
    monkeypatch.undo()

    def told(**changed):
        return verify(tmp_path, {"secret": secret, "headers": headers, "body": body, **changed})

    assert told()
    assert told(secret=old)
    assert not told(secret=new_secret())
    assert not told(body=body.replace("1", "2"))
    assert not told(headers={**headers, "webhook-id": "msg_2"})
    assert not told(headers=late)


def test_links_lead_somewhere():
    for path in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        for link in re.findall(r"\]\((?!https?://|#|/)([^)#]+)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_the_index_knows_every_page():
    index = (DOCS / "README.md").read_text()

    assert set(re.findall(r"\(([\w-]+\.md)\)", index)) == {path.name for path in DOCS.glob("*.md")} - {"README.md"}
