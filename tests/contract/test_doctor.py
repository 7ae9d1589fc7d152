"""The doctor, with a Valkey set wrongly on purpose, a dead endpoint, missing models, settings that contradict."""

import json
import struct

import pytest
from click.testing import CliRunner

from shared.accounts import Accounts
from shared.cli import main
from shared.doctor import Level, look_at_models, look_at_redis, look_at_settings, look_at_storage
from shared.doctor.redis_server import _clock
from shared.settings import Settings
from tests import services


def found(findings, level=Level.ERROR):
    return [(finding.says, finding.do) for finding in findings if finding.level is level]


def test_a_server_set_wrongly_on_purpose():
    wrong = ("--maxmemory-policy", "allkeys-lru", "--maxmemory", "1mb")
    with services.valkey(settings=wrong) as server, server.client() as client:
        findings = list(look_at_redis(client))

    (policy, do), (memory, _) = found(findings)
    assert policy == "maxmemory-policy is allkeys-lru"
    assert "maxmemory-policy noeviction" in do
    assert "of 1 MiB used" in memory
    assert [says for says, _ in found(findings, Level.WARNING) if "round trip" not in says] == ["appendonly is no"]


def test_a_server_as_it_should_be():
    with services.valkey(aof=True) as server, server.client() as client:
        findings = list(look_at_redis(client))

    assert found(findings) == []
    told = " ".join(finding.says for finding in findings)
    assert "Valkey 9" in told
    assert "appendonly is yes" in told


def test_a_clock_that_is_off(valkey):
    class Late:
        def time(self):
            seconds, microseconds = valkey.time()
            return seconds - 60, microseconds

    finding = _clock(Late())

    assert (finding.area, finding.level) == ("clock", Level.ERROR)
    assert "NTP" in finding.do


@pytest.fixture
def aws(monkeypatch):
    def use(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return use


def test_a_dead_endpoint(aws):
    aws(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_EC2_METADATA_DISABLED="true")
    settings = Settings(s3_endpoint_url=f"http://127.0.0.1:{services.free_port()}", s3_bucket="pictures")

    ((says, do),) = found(look_at_storage(settings))

    assert says.startswith("put of a probe in bucket pictures failed")
    assert "S3_ENDPOINT_URL" in do


def test_an_endpoint_that_works(aws):
    with services.s3() as endpoint:
        aws(**endpoint.environment)
        findings = list(look_at_storage(Settings.from_env(endpoint.environment)))
        left = [path for path in endpoint.data_dir.rglob("*") if path.is_file()]

    assert found(findings) == []
    assert left == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "storage").write_text("no folder")

    ((says, do),) = found(look_at_storage(Settings(data_dir=tmp_path)))

    assert "failed" in says
    assert "DARKROOM_DATA_DIR" in do


def safetensors(path, cut=0):
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    path.write_bytes((struct.pack("<Q", len(header)) + header + bytes(16))[: -cut or None])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda _: None, "is not there"),
        (lambda path: safetensors(path, cut=1), "is cut off"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "is cut off, or no .safetensors file"),
        (lambda path: path.write_bytes(b"x"), "cannot be read"),
        (safetensors, None),
    ],
    ids=["missing", "cut", "html", "short", "whole"],
)
def test_model_files(tmp_path, make, says):
    make(tmp_path / "mine.safetensors")
    (tmp_path / "models.toml").write_text('[models.mine]\nsource = "./mine.safetensors"\n')

    faults = found(look_at_models(Settings(models_catalog=tmp_path / "models.toml")))

    assert len(faults) == (says is not None)
    if says:
        assert faults[0][0].startswith("model mine: ")
        assert says in faults[0][0]
        assert "[models.mine]" in faults[0][1]


@pytest.mark.parametrize(
    ("environment", "level", "says"),
    [
        ({"LINK_TTL_S": "600", "RETENTION_S": "60"}, Level.WARNING, "LINK_TTL_S is longer than RETENTION_S"),
        ({"SHORT_WAIT_S": "60", "SYNC_WAIT_S": "5"}, Level.WARNING, "SHORT_WAIT_S is longer"),
        ({"LEASE_S": "60", "STALL_S": "60"}, Level.ERROR, "LEASE_S is not shorter than STALL_S"),
        ({"S3_PUBLIC_ENDPOINT_URL": "http://s3.example"}, Level.ERROR, "without S3_BUCKET"),
        ({"REDIS_URL": "redis://queue.example"}, Level.WARNING, "Redis is on another machine"),
        ({"HOST": "0.0.0.0"}, Level.WARNING, "links begin with http://127.0.0.1:8000"),
        ({"BATCH_JOBS": "8", "BATCH_IMAGES": "4"}, Level.WARNING, "BATCH_IMAGES is less"),
        ({"RATE_LIMITS": "gold=1/second"}, Level.WARNING, "names the plan gold"),
        ({"PLANS_FILE": "/nowhere/plans.toml"}, Level.ERROR, "PLANS_FILE: /nowhere/plans.toml"),
        ({"PRICES_FILE": "/nowhere/prices.toml"}, Level.ERROR, "PRICES_FILE: /nowhere/prices.toml"),
        ({}, Level.OK, "nothing contradicts"),
    ],
)
def test_settings_that_contradict_each_other(environment, level, says):
    (finding,) = look_at_settings(Settings.from_env(environment))

    assert finding.level is level
    assert says in finding.says
    assert bool(finding.do) is (level is not Level.OK)


def run(server, folder, *arguments, **environment):
    given = {"REDIS_URL": server.url, "DARKROOM_DATA_DIR": str(folder), "DEVICE": "cpu", **environment}
    return CliRunner().invoke(main, ["doctor", *arguments], env=given)


def test_the_command_tells_all_and_its_exit_status(valkey_server, valkey, tmp_path):
    accounts = Accounts(valkey)
    accounts.create_key("alice", plan="free")
    valkey.hset(f"{{dr}}:a:{accounts.create_key('bob').account}", "max_running", 7)

    well = run(valkey_server, tmp_path)
    assert well.exit_code == 0, well.output
    assert "-> darkroom accounts plan bob paid" in well.output
    assert "cpu, " in well.output

    (tmp_path / "plans.toml").write_text("plans = 1")
    ill = run(valkey_server, tmp_path, "--json", PLANS_FILE=str(tmp_path / "plans.toml"))
    assert ill.exit_code == 1
    levels = {finding["area"]: finding["level"] for finding in json.loads(ill.stdout)}
    assert levels["settings"] == "error"
    assert {"redis", "clock", "storage", "models", "versions", "device"} <= set(levels)


def test_a_device_that_is_not_here(valkey_server, valkey, tmp_path):
    ill = run(valkey_server, tmp_path, DEVICE="cuda:77")

    assert ill.exit_code == 1
    assert "DEVICE: 'cuda:77' cannot be used here" in ill.output


def test_a_server_that_is_away(tmp_path):
    class Away:
        url = f"redis://127.0.0.1:{services.free_port()}/0"

    ill = run(Away, tmp_path, "--json")

    assert ill.exit_code == 1
    assert [each["do"] for each in json.loads(ill.stdout) if each["area"] == "redis"] == [
        "Start it, or set REDIS_URL to where it is."
    ]
