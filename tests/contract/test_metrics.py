"""Metrics as Prometheus gets them: from gunicorn's processes, a courier and a worker that have had work to do."""

import json
import re
import runpy
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
import torch
import yaml
from prometheus_client.parser import text_string_to_metric_families

from shared.catalog import Catalog
from shared.celery_app import CeleryBell, make_celery
from shared.metrics.exposition import serve
from shared.settings import Settings
from tests.conftest import need
from tests.liveapi import LiveApi
from tests.promql import Exposed, faults
from tests.services import HOST, Service, free_port, receiver, valkey, wait_until
from tests.worker_rig import NODE, Rig
from worker.engine import Engine
from worker.measures import DeviceMemory

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
DASHBOARD = ROOT / "deploy/grafana/darkroom.json"
TOKEN = "a-token-of-sixteen-and-more"
#: Time for a process to start on a machine under load.
LONG_S = 120.0

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")


class Stand:
    """The API with two processes, a courier and a worker's parts in this process, each with its metrics."""

    def __init__(self, folder, stack) -> None:
        server = stack.enter_context(valkey())
        self.receiver = stack.enter_context(receiver())
        allow = {"OUTBOUND_ALLOW": "127.0.0.0/8"}
        self.api = LiveApi(server, folder, WEB_PROCESSES="2", METRICS_TOKEN=TOKEN, **allow)
        stack.callback(self.api.service.stop)
        self.api.make_key()
        self.ports = {"courier": free_port(), "worker": free_port()}
        self.courier = self._courier(server, folder, allow)
        stack.callback(self.courier.stop)
        self.courier.start()
        self.api.start()
        torch.set_num_threads(1)
        settings = Settings(data_dir=folder, device="cpu")
        self.rig = Rig(self.api.redis, engine=Engine(settings, Catalog.load(settings)))
        serve(self.ports["worker"], HOST, DeviceMemory(self.rig.engine.device))

    def _courier(self, server, folder, allow):
        command = [sys.executable, "-m", "celery", "-A", "worker.courier_app", "worker", "--pool=threads"]
        return Service(
            [*command, "--concurrency=2", "--hostname=courier@metrics", "--without-gossip", "--without-mingle"],
            ready=lambda: True,
            log=folder / "courier.log",
            env={
                "PYTHONPATH": str(ROOT),
                "REDIS_URL": server.url,
                "DARKROOM_DATA_DIR": str(folder),
                "COURIER_METRICS_PORT": str(self.ports["courier"]),
                **allow,
            },
        )

    def work(self) -> None:
        """Let jobs succeed, fail, be cancelled and be lost, and webhooks be delivered and refused."""
        small = {"width": 64, "height": 64, "num_inference_steps": 2, "webhook_url": self.receiver.url}
        uids = [self.api.submit(seed=seed, **small) for seed in (1, 2)]
        cancelled = self.api.submit(webhook_url=self.receiver.url)
        requests.post(f"{self.api.url}/v1/jobs/{cancelled}/cancel", headers=self.api.headers, timeout=30)
        refused = requests.post(f"{self.api.url}/v1/jobs", json={}, headers=self.api.headers, timeout=30)
        assert refused.status_code == 400
        self.lose_one()
        self.rig.runner.turn()
        assert [self.status(uid) for uid in uids] == ["succeeded", "succeeded"]
        # The receiver hands out no picture, so this one ends at the courier.
        self.fetched = fetched = self.api.submit(image=f"{self.receiver.url}/picture.png")
        wait_until(lambda: self.status(fetched) == "failed", timeout_s=LONG_S, what="a job without its image")
        CeleryBell(make_celery(Settings(redis_url="redis://127.0.0.1:1/0"))).wake(["nobody"])

    def lose_one(self) -> None:
        self.rig.claim(jobs=1)
        self.rig.backlog.goodbye(NODE)
        self.rig.hello("second")

    def status(self, uid) -> str:
        return self.api.get(f"/v1/jobs/{uid}").json()["status"]

    def scrape_api(self) -> str:
        answer = requests.get(f"{self.api.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        return answer.text

    def scrape(self, who) -> str:
        return requests.get(f"http://{HOST}:{self.ports[who]}/metrics", timeout=30).text

    def scrapes(self) -> dict[str, str]:
        return {"api": self.scrape_api(), "courier": self.scrape("courier"), "worker": self.scrape("worker")}


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    with ExitStack() as stack:
        stand = Stand(tmp_path_factory.mktemp("metrics"), stack)
        stand.work()
        wait_until(lambda: value(stand.scrape("courier"), "darkroom_webhook_attempts_total") >= 3, what="webhooks")
        yield stand


def value(text, name, **labels) -> float:
    """Return the sum of a scrape's samples of that name which have these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def expressions() -> dict[str, str]:
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    found = {rule["alert"]: rule["expr"] for rule in rules}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$__rate_interval", "5m")
            found[f"{panel['title']} {target['refId']}"] = expression
    return found


def test_every_expression_finds_its_metrics_and_labels(stand):
    exposed = Exposed()
    for text in stand.scrapes().values():
        exposed.add(text)

    assert {title: found for title, one in expressions().items() if (found := faults(one, exposed))} == {}


def test_what_is_exposed_is_shown_and_told(stand):
    exposed = Exposed()
    for text in stand.scrapes().values():
        exposed.add(text)
    ours = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in exposed.samples if "darkroom" in name}
    shown = " ".join(expressions().values())
    told = (ROOT / "docs/metrics.md").read_text()

    assert len(ours) > 25
    # A counter comes with when it began, under a name without the _total.
    assert {name for name in ours if name not in shown and f"{name}_total" not in shown} == set()
    assert {name for name in ours if f"`{name}" not in told and f"`{name}_total" not in told} == set()


def test_no_label_tells_of_accounts_or_jobs(stand):
    exposed = Exposed()
    for text in stand.scrapes().values():
        exposed.add(text)
    values = {value for labels in exposed.samples.values() for found in labels.values() for value in found}
    account = stand.api.redis.hget("{dr}:accounts", "alice")
    uids = stand.api.redis.lrange(f"{{dr}}:ix:{account}", 0, -1)

    assert len(uids) == 4
    assert not values & {*uids, "alice", "a red circle"}
    assert not any(stand.receiver.url in value for value in values)
    names = {name for labels in exposed.samples.values() for name in labels}
    assert not names & {"uid", "account", "key", "path", "url", "track_id"}


def test_any_process_of_the_api_tells_of_all(stand):
    before = value(stand.scrape_api(), "darkroom_http_requests_total", surface="health")
    for _ in range(20):
        requests.get(f"{stand.api.url}/healthz", timeout=30)

    told = {value(stand.scrape_api(), "darkroom_http_requests_total", surface="health") for _ in range(10)}

    assert told == {before + 20}


def test_submits_and_ends_are_counted_where_they_happen(stand):
    scrapes = stand.scrapes()
    api, courier, worker = scrapes["api"], scrapes["courier"], scrapes["worker"]

    assert value(api, "darkroom_submits_total", dialect="native", model="demo", priority="normal") == 4
    assert value(api, "darkroom_outcomes_total", status="cancelled") == 1
    assert value(worker, "darkroom_outcomes_total", dialect="native", model="demo", status="succeeded", code="") >= 2
    code = stand.api.get(f"/v1/jobs/{stand.fetched}").json()["error"]["code"]
    assert value(courier, "darkroom_outcomes_total", status="failed", code=code) == 1
    assert value(courier, "darkroom_ingests_total", outcome="refused") == 1
    assert value(courier, "darkroom_webhook_attempts_total", event="succeeded", outcome="delivered") == 2
    assert value(courier, "darkroom_webhook_lag_seconds_count") == 3
    assert value(api, "darkroom_http_errors_total", surface="jobs", code="missing_field") == 1


def test_the_queue_is_read_at_the_scrape(stand):
    uid = stand.api.submit()
    now = stand.scrape_api()
    lane = {"pool": "default", "model": "demo"}

    assert value(now, "darkroom_jobs_waiting", **lane) == 1
    assert value(now, "darkroom_lane_open", **lane) == 1
    assert value(now, "darkroom_backlog_up") == 1
    stand.api.redis.hset(f"{{dr}}:j:{uid}", "created", 0)
    assert value(stand.scrape_api(), "darkroom_oldest_waiting_seconds", **lane) > 1e9
    requests.post(f"{stand.api.url}/v1/jobs/{uid}/cancel", headers=stand.api.headers, timeout=30)
    assert value(stand.scrape_api(), "darkroom_jobs_waiting", **lane) == 0


def test_a_worker_is_live_while_it_says_hello(stand):
    def live() -> bool:
        stand.rig.hello("second")  # as its heartbeat would, were it running
        return value(stand.scrape_api(), "darkroom_workers_live", pool="default", model="demo") == 1

    wait_until(live, what="a live worker")


@pytest.mark.parametrize("given", [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}"])
def test_nothing_but_the_token_opens_it(stand, given):
    headers = {} if given is None else {"Authorization": given}

    assert requests.get(f"{stand.api.url}/metrics", headers=headers, timeout=30).status_code == 401
    assert stand.api.get("/metrics").status_code == 401


@pytest.mark.parametrize(("name", "successor", "kept"), [("", 0, False), ("", 17, True), ("mine", 0, True)])
def test_what_gunicorn_counted_goes_with_it(tmp_path, monkeypatch, name, successor, kept):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")  # so that it is put back as it was
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if name:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / name))
        (tmp_path / name).mkdir()
    configuration = runpy.run_path(str(ROOT / "deploy/gunicorn.conf.py"))

    assert len(list(tmp_path.iterdir())) == 1
    configuration["on_exit"](SimpleNamespace(reexec_pid=successor))
    assert bool(list(tmp_path.iterdir())) is kept


def test_the_rules_are_prometheus_own_kind_of_right():
    promtool = need("promtool")
    subprocess.run([promtool, "check", "rules", ALERTS], check=True, capture_output=True)
    subprocess.run([promtool, "test", "rules", ALERTS.with_name("alerts_test.yml")], check=True, capture_output=True)


def test_the_dashboards_queries_are_promql(tmp_path):
    promtool = need("promtool")
    rules = [{"record": f"q{number}", "expr": one} for number, one in enumerate(expressions().values())]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))

    subprocess.run([promtool, "check", "rules", tmp_path / "queries.yml"], check=True, capture_output=True)


def test_the_scrape_configuration_is_one(tmp_path):
    promtool = need("promtool")
    for file in ALERTS.parent.iterdir():
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "metrics_token").write_text(TOKEN)

    subprocess.run([promtool, "check", "config", tmp_path / "prometheus.yml"], check=True, capture_output=True)


def test_a_wrong_query_is_noticed():
    exposed = Exposed()
    exposed.add('# TYPE darkroom_a counter\ndarkroom_a_total{model="m"} 1\n')

    assert faults('sum by (model) (rate(darkroom_a_total{model="m"}[5m]))', exposed) == []
    assert faults("sum by (modell) (darkroom_a_total)", exposed)
    assert faults('darkroom_a_total{kind="m"}', exposed)
    assert faults("darkroom_b_total", exposed)
    assert faults("vector(1)", exposed)
