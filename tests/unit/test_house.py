"""What holds between the files that describe the house, and for its code as a whole."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from honcho.environ import parse_procfile

from shared.dialects import stability_fields
from shared.dialects.samplers import OCTOAI, STABILITY
from shared.settings import VARIABLES, Settings

ROOT = Path(__file__).resolve().parents[2]
KNOWN = {variable for variable, _ in VARIABLES.values()}
#: Read by boto3, Hugging Face's and OpenTelemetry's libraries and the command line's options, not by Settings.
OTHERS = {
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"),
    *("HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE"),
    *("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"),
    *("DARKROOM_URL", "DARKROOM_KEY"),
}
#: Read by prometheus_client, and set by deploy/gunicorn.conf.py; read by Flower.
NO_SETTING_OF_OURS = {"PROMETHEUS_MULTIPROC_DIR", "FLOWER_URL_PREFIX"}
#: Names in capitals that are no settings.
NO_SETTINGS = re.compile(r"^(MAX|MIN|AOF|HTTP|JSON|SSE)")


def sources(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def in_shell(command):
    """Return a compose command as the Procfile writes it."""
    return command if isinstance(command, str) else command[-1].removeprefix("exec ").replace("$$", "$")


def test_compose_runs_the_procfiles_commands():
    processes = parse_procfile((ROOT / "Procfile").read_text()).processes
    services = {"web": "api", "worker": "worker", "courier": "courier", "flower": "flower"}

    assert {name: in_shell(compose()["services"][services[name]]["command"]) for name in processes} == dict(processes)


def test_compose_passes_no_unknown_setting():
    services = compose()["services"]
    passed = {name for service in services.values() for name in service.get("environment", {})}

    assert passed <= KNOWN | OTHERS


def test_the_example_describes_every_setting_and_no_other():
    example = (ROOT / ".env.example").read_text()
    described = re.findall(r"^#([A-Z][A-Z0-9_]*)=", example, re.MULTILINE)

    assert len(described) == len(set(described))
    assert set(described) == KNOWN | OTHERS


def test_the_examples_values_are_the_defaults():
    example = (ROOT / ".env.example").read_text()
    values = dict(re.findall(r"^#([A-Z][A-Z0-9_]*)=(.*)$", example, re.MULTILINE))
    defaults = Settings()
    #: Those without a default show an example.
    shown = {
        "REDIS_URL",
        "PUBLIC_URL",
        "S3_ENDPOINT_URL",
        "S3_PUBLIC_ENDPOINT_URL",
        "S3_BUCKET",
        "NODE",
    }

    read = Settings.from_env({name: values[name] for name in KNOWN - shown})

    assert read.evolve(node="") == defaults.evolve(node="")


#: What requests and answers of the providers may say, written as settings are.
WORDS_OF_DIALECTS = {
    *STABILITY,
    *OCTOAI,
    *(word for words, _, _ in stability_fields.WORDS.values() for word in words),
    "CONTENT_FILTERED",
}


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.name)
def test_docs_name_no_unknown_setting(path):
    """Settings are written as `NAME` or `NAME=value`."""
    named = set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`", path.read_text()))

    assert named <= KNOWN | OTHERS | WORDS_OF_DIALECTS | NO_SETTING_OF_OURS


def test_the_architecture_page_tells_of_every_key_and_script():
    page = (ROOT / "docs/architecture.md").read_text()
    told = {re.match(r"[a-z]+:?(dead)?", name)[0] for name in re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)}
    scripts = [*(ROOT / "shared/backlog/scripts").glob("*.lua")]
    named = re.findall(r"\{PREFIX\}([a-z]+:?)", (ROOT / "shared/keys.py").read_text())
    for script in scripts:
        named += re.findall(r"P \.\. '([a-z]+:?(?:dead)?)'", script.read_text())

    assert {name.rstrip(":") for name in named} <= {name.rstrip(":") for name in told}
    assert {script.stem for script in scripts if script.stem[0] != "_"} <= set(re.findall(r"`([a-z_]+)`", page))


def test_only_the_settings_read_the_environment():
    readers = [
        path.relative_to(ROOT).as_posix()
        for path in sources("api", "worker", "shared")
        if re.search(r"os\.environ(?!\.setdefault)|os\.getenv|from os import .*\b(environ|getenv)", path.read_text())
    ]

    assert readers == ["shared/settings.py"]


@pytest.mark.parametrize("module", ["api", "worker.courier_app", "shared.cli", "shared.stack.stack"])
def test_no_torch_on_the_way_of(module):
    code = f"import json, sys; import {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"REDIS_URL": "redis://127.0.0.1:1/0", "PATH": ""},
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))

    assert not loaded & {"torch", "diffusers", "transformers"}


@pytest.mark.parametrize("module", ["shared.cli", "shared.stack.stack", "worker.courier_app"])
def test_no_flask_on_the_way_of(module):
    code = f"import sys, {module}; sys.exit('flask' in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=False,
        timeout=60,
        env={"REDIS_URL": "redis://127.0.0.1:1/0", "PATH": ""},
    )

    assert done.returncode == 0


def test_every_dependency_is_pinned():
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "deploy/constraints.txt").read_text().splitlines()
    }
    wanted = {
        re.split(r"[\s<>=\[;!~]", wish)[0].lower().replace("_", "-")
        for wish in re.findall(r'^    "([A-Za-z][^"]*)",?$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
        if re.search(r"[<>=]=|^types-", wish)
    }

    assert len(wanted) > 20
    assert wanted <= pinned


def test_every_make_target_is_explained():
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: ([a-z-]+)$", makefile, re.MULTILINE))

    done = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert {line.split()[1] for line in re.sub(r"\033\[\d*m", "", done.stdout).splitlines()} | {"help"} == phony | {
        "help"
    }
