"""What deploys Darkroom: systemd's units and Kubernetes' manifests are sound, and run the Procfile's commands."""

import re
import shutil
import subprocess
from pathlib import Path

import fakeredis
import kubernetes_validate
import pytest
import yaml
from honcho.environ import parse_procfile

from shared.cli.api import _BATCH_TIMEOUT_S
from shared.metrics.standing import Standing
from shared.settings import VARIABLES, Settings
from tests.conftest import need
from worker.signals import DRAIN_S

ROOT = Path(__file__).resolve().parents[2]
PROCFILE = dict(parse_procfile((ROOT / "Procfile").read_text()).processes)
KUBERNETES = ROOT / "deploy/kubernetes"
UNITS = sorted((ROOT / "deploy/systemd").iterdir())
#: The oldest and the newest release that the manifests are checked with.
RELEASES = ("1.29", kubernetes_validate.latest_version())
#: name there -> the Procfile's
NAMES = {"api": "web", "worker": "worker", "courier": "courier", "flower": "flower"}
#: What is applied only where it is asked for.
OPTIONAL = {"ingress"}
KNOWN = {variable for variable, _ in VARIABLES.values()}
#: Read by boto3, Hugging Face's libraries, the shell, CUDA and Flower.
OTHERS = {"AWS_DEFAULT_REGION", "HF_HOME", "PATH", "CUDA_VISIBLE_DEVICES", "FLOWER_ADDRESS"}


def manifests():
    """Yield each object of each file that a kustomization names."""
    for kustomization in sorted(KUBERNETES.rglob("kustomization.yaml")):
        for name in yaml.safe_load(kustomization.read_text()).get("resources", ()):
            path = kustomization.parent / name
            if path.is_file():
                yield from yaml.safe_load_all(path.read_text())


OBJECTS = list(manifests())
WORKLOADS = [each for each in OBJECTS if each["kind"] in {"Deployment", "StatefulSet"}]
OURS = [each for each in WORKLOADS if each["metadata"]["name"] in NAMES]


def title(thing):
    return f"{thing['kind']} {thing['metadata']['name']}" if isinstance(thing, dict) else str(thing)


def pod(workload):
    return workload["spec"]["template"]["spec"]


def of_kind(kind):
    return {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] == kind}


def command_of(unit):
    """Return a unit's command as the Procfile writes it: systemd's own signs are written twice there."""
    (line,) = re.findall(r"^ExecStart=/bin/sh -c 'exec (.*)'$", unit.read_text(), re.MULTILINE)
    return line.replace("$$", "$").replace("%%", "%")


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_reads_a_unit_without_a_complaint(unit):
    done = subprocess.run(
        [need("systemd-analyze"), "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )

    assert (done.returncode, [line for line in done.stderr.splitlines() if unit.name in line]) == (0, [])


def test_units_run_the_procfiles_commands():
    found = {re.match(r"darkroom-(\w+)", unit.name)[1]: command_of(unit) for unit in UNITS if unit.suffix == ".service"}

    assert {NAMES[name]: command for name, command in found.items()} == PROCFILE


def test_units_set_no_unknown_setting():
    for unit in UNITS:
        for line in re.findall(r"^Environment=(.*)$", unit.read_text(), re.MULTILINE):
            assert {pair.partition("=")[0] for pair in line.split()} <= KNOWN | OTHERS


@pytest.mark.parametrize("kustomization", sorted(KUBERNETES.rglob("kustomization.yaml")), ids=lambda p: p.parent.name)
def test_a_kustomization_names_what_is_there_and_all_of_it(kustomization):
    found = yaml.safe_load(kustomization.read_text())
    named = {*found.get("resources", ()), *found.get("components", ())}
    beside = {path.name for path in kustomization.parent.iterdir()} - {"kustomization.yaml"}

    assert named == beside - OPTIONAL
    assert found["kind"] in {"Kustomization", "Component"}


def built(folder):
    """Return what kubectl makes of a folder. Debian 12 has none that knows components."""
    kubectl = shutil.which("kubectl") or pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=True, timeout=60)
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout)}


def test_kubectl_builds_it():
    assert set(built(KUBERNETES)) == {(each["kind"], each["metadata"]["name"]) for each in OBJECTS} - {
        ("Ingress", "api")
    }


def test_kubectl_builds_the_guides_own_kustomization(tmp_path):
    guide = (ROOT / "docs/operators-guide.md").read_text()
    (text,) = re.findall(r"<!-- tested: kustomization -->\n```yaml\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "darkroom").symlink_to(ROOT)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/kustomization.yaml").write_text(text)

    found = built(tmp_path / "mine")

    assert found.keys() == {(each["kind"], each["metadata"]["name"]) for each in OBJECTS}
    assert all(each["metadata"]["namespace"] == "darkroom" for (kind, _), each in found.items() if kind != "Namespace")
    ingress = found["Ingress", "api"]["spec"]
    assert ingress["rules"][0]["host"] == ingress["tls"][0]["hosts"][0] == "draw.mine.org"
    assert found["ConfigMap", "darkroom"]["data"]["PUBLIC_URL"] == "https://draw.mine.org"
    assert pod(found["Deployment", "api"])["containers"][0]["image"].startswith("registry.mine.org/darkroom-api")


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("manifest", [each for each in OBJECTS if "keda.sh" not in each["apiVersion"]], ids=title)
def test_a_manifest_is_what_kubernetes_reads(manifest, release):
    kubernetes_validate.validate(manifest, release, strict=True)


def test_containers_run_the_procfiles_commands():
    found = {each["metadata"]["name"]: pod(each)["containers"][0]["command"] for each in OURS}

    assert {NAMES[name]: command[-1].removeprefix("exec ") for name, command in found.items()} == PROCFILE
    assert all(command[:2] == ["sh", "-c"] and command[2].startswith("exec ") for command in found.values())


def test_containers_get_no_unknown_setting_and_none_that_cannot_be():
    settings = of_kind("ConfigMap")["darkroom"]["data"]
    assert set(settings) <= KNOWN | OTHERS
    Settings.from_env(settings)
    for workload in OURS:
        own = {each["name"]: each.get("value", "") for each in pod(workload)["containers"][0].get("env", ())}
        assert set(own) <= KNOWN | OTHERS
        Settings.from_env({**settings, **own})
        # Kubernetes' own variables for the Service `flower` would be FLOWER_PORT.
        assert pod(workload)["enableServiceLinks"] is False


def test_images_are_the_dockerfiles_targets():
    targets = set(re.findall(r"^FROM \w+ AS (\w+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE))
    images = {each["name"] for each in yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["images"]}

    assert images == {f"darkroom-{target}" for target in targets}
    assert {pod(each)["containers"][0]["image"] for each in OURS} == images


def test_whoever_must_not_go_at_once_has_a_budget():
    budgets = {name: each["spec"]["selector"]["matchLabels"] for name, each in of_kind("PodDisruptionBudget").items()}

    assert set(budgets) == {"api", "worker", "courier", "valkey"}
    for workload in WORKLOADS:
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"] == labels
        assert budgets.get(workload["metadata"]["name"], labels) == labels


def test_the_way_in_lets_through_what_the_api_takes():
    ingress = of_kind("Ingress")["api"]
    told = {name.rpartition("/")[2]: value for name, value in ingress["metadata"]["annotations"].items()}
    (rule,), settings = ingress["spec"]["rules"], of_kind("ConfigMap")["darkroom"]["data"]
    (path,) = rule["http"]["paths"]
    service = of_kind("Service")[path["backend"]["service"]["name"]]

    assert int(told["proxy-body-size"].removesuffix("m")) * 2**20 > Settings().max_body_bytes
    assert int(told["proxy-read-timeout"]) >= _BATCH_TIMEOUT_S > Settings().sync_wait_s
    assert settings["PUBLIC_URL"] == f"https://{rule['host']}"
    assert ingress["spec"]["tls"][0]["hosts"] == [rule["host"]]
    assert settings["PROXY_HOPS"] == "1"
    assert path["backend"]["service"]["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}


def test_a_worker_has_time_to_draw_what_it_has_begun():
    """Longer than a pipeline may go without a step until it counts as stuck, and results take to be handed over."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["worker"]
    unit = (ROOT / "deploy/systemd/darkroom-worker@.service").read_text()
    granted = {
        int(compose["stop_grace_period"].removesuffix("s")),
        int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[1]),
        next(pod(each)["terminationGracePeriodSeconds"] for each in OURS if each["metadata"]["name"] == "worker"),
    }

    assert len(granted) == 1
    assert granted.pop() > Settings().stall_s + 2 * DRAIN_S


def test_a_worker_has_a_gpu_of_its_own():
    worker = next(each for each in OURS if each["metadata"]["name"] == "worker")

    assert pod(worker)["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert worker["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_the_number_of_workers_follows_the_queue(tmp_path):
    (scaled,) = of_kind("ScaledObject").values()
    spec = scaled["spec"]
    (trigger,) = spec["triggers"]
    asked = trigger["metadata"]

    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    assert spec["scaleTargetRef"]["name"] in of_kind(spec["scaleTargetRef"]["kind"])
    assert 0 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    assert (trigger["type"], set(asked)) == (
        "prometheus", {"serverAddress", "query", "threshold", "ignoreNullValues"},
    )  # fmt: skip
    assert all(isinstance(value, str) for value in asked.values())
    assert float(asked["threshold"]) > 0
    assert asked["ignoreNullValues"] == "false"
    exposed = {family.name for family in Standing(fakeredis.FakeRedis(decode_responses=True), limit=1).collect()}
    assert set(re.findall(r"darkroom_\w+", asked["query"])) <= exposed
    assert_answers(asked["query"], tmp_path)


def assert_answers(query, folder):
    """Two APIs tell the same, which counts once; while Redis is away there is no answer; without lanes it is 0."""
    lane = '{pool="default",model="demo",instance="%s"}'
    series = {
        "darkroom_backlog_up": "1 0 1",
        "darkroom_jobs_waiting": "30 stale stale",
        "darkroom_jobs_running": "4 stale stale",
    }
    _, *lanes = series
    given = [
        {"series": f"{name}{lane % instance if name in lanes else ''}", "values": series[name]}
        for name in series
        for instance in (("a", "b") if name in lanes else ("",))
    ]
    asked = [
        {"expr": query, "eval_time": at, "exp_samples": [{"labels": "{}", "value": value}] if value is not None else []}
        for at, value in (("0m", 34), ("1m", None), ("2m", 0))
    ]
    test = {"interval": "1m", "input_series": given, "promql_expr_test": asked}
    (folder / "test.yml").write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    done = subprocess.run(
        [need("promtool"), "test", "rules", folder / "test.yml"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
