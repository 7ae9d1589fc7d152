"""docs/configuration.md: every setting, from `shared/settings.py` and `.env.example`."""

import re
from pathlib import Path
from typing import Final, NamedTuple

from shared.setting_kinds import TEXT
from shared.settings import VARIABLES, Settings
from tests.reference.table import table

ROOT: Final = Path(__file__).parents[2]

HEAD: Final = """\
# Configuration

<!-- Made by `make docs` from shared/settings.py and .env.example. Change those. -->

Darkroom reads environment variables, each process at its start. `make up` and Docker Compose take them from a file
`.env` as well. Empty is the same as unset; a value that cannot be stops the start with a message that names the
variable.

`up` is `darkroom up`, which hands all of them on to the processes that it starts. The `darkroom` commands for operators
read `REDIS_URL`, `DARKROOM_DATA_DIR` and whatever concerns the things that they deal with.
"""

API, WORKER, COURIER, FLOWER, UP = "API", "worker", "courier", "Flower", "`up`"
_ALL: Final = (API, WORKER, COURIER)
#: field of Settings -> the processes that read it
READ_BY: Final[dict[str, tuple[str, ...]]] = {
    "redis_url": (*_ALL, FLOWER, UP),
    "data_dir": (*_ALL, FLOWER, UP),
    "secret_key": _ALL,
    "host": (API, COURIER, UP),
    "port": (API, COURIER, UP),
    "public_url": (API, COURIER),
    "cors_origins": (API,),
    "web_processes": (API,),
    "web_threads": (API,),
    "max_body_bytes": (API,),
    "sync_wait_s": (API,),
    "short_wait_s": (API,),
    "s3_endpoint_url": _ALL,
    "s3_bucket": _ALL,
    "s3_public_endpoint_url": (API, COURIER),
    "link_ttl_s": (API, COURIER),
    "models_catalog": (API, WORKER, UP),
    "models_default": (API, WORKER, UP),
    "models_memory_mb": (WORKER,),
    "assets_memory_mb": (WORKER,),
    "pool": (WORKER,),
    "node": (WORKER, UP),
    "device": (WORKER,),
    "batch_jobs": (WORKER,),
    "batch_images": (WORKER,),
    "stall_s": (WORKER,),
    "plans_file": (API,),
    "prices_file": (API,),
    "rate_limits": (API,),
    "login_limit": (API,),
    "proxy_hops": (API,),
    "backlog_limit": _ALL,
    "lease_s": _ALL,
    "visibility_timeout_s": (*_ALL, FLOWER),
    "spool_mb": (WORKER,),
    "retention_s": (COURIER,),
    "tombstone_s": (COURIER,),
    "courier_threads": (COURIER, UP),
    "outbound_allow": (API, COURIER),
    "flower_port": (FLOWER, UP),
    "flower_basic_auth": (FLOWER, UP),
    "metrics_token": (API, UP),
    "metrics_host": (WORKER, COURIER),
    "worker_metrics_port": (WORKER,),
    "courier_metrics_port": (COURIER,),
    "otel_exporter_otlp_endpoint": _ALL,
    "otel_service_name": _ALL,
    "log_level": _ALL,
    "log_format": _ALL,
}
#: Variables of others -> who reads them.
OTHERS: Final = {
    "AWS_": "boto3, in API, worker, courier",
    "HF_": "Hugging Face's libraries, in the worker",
    "OTEL_": "OpenTelemetry's SDK, in API, worker, courier",
    "DARKROOM_": "commands",
}


class Described(NamedTuple):
    """A variable as `.env.example` has it."""

    section: str
    variable: str
    #: Empty where the variable before it is described together with it.
    meaning: str


def described() -> list[Described]:
    """Return the variables of `.env.example` in its order."""
    found, section, comment, is_group = [], "", [], False
    for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines():
        if title := re.fullmatch(r"# --- (.+?) -+", line):
            section = title[1]
        elif variable := re.match(r"#([A-Z][A-Z0-9_]*)=", line):
            if not (comment or is_group):
                raise ValueError(f".env.example does not say what {variable[1]} is")
            found.append(Described(section, variable[1], " ".join(comment)))
            comment, is_group = [], True
        else:
            comment, is_group = [*comment, line[2:]] if line.startswith("# ") else [], False
    return found


def page() -> str:
    """Return the page."""
    sections: dict[str, list[tuple[str, ...]]] = {}
    before = ""
    for name, variable, meaning in described():
        before = before if not meaning else variable
        sections.setdefault(name, []).append(_row(variable, meaning or f"See `{before}`."))
    tables = (
        f"\n## {name[0].upper()}{name[1:]}\n\n"
        + table(("variable", "type", "default", "bounds", "read by", "meaning"), rows)
        for name, rows in sections.items()
    )
    return HEAD + "".join(tables)


def _row(variable: str, meaning: str) -> tuple[str, ...]:
    fields = {name: field for field, (name, _) in VARIABLES.items()}
    if variable not in fields:
        reader = next(reader for prefix, reader in OTHERS.items() if variable.startswith(prefix))
        return f"`{variable}`", TEXT.name, "", "", reader, meaning
    field = fields[variable]
    kind = VARIABLES[field][1]
    return f"`{variable}`", kind.name, _default(field), kind.bounds, ", ".join(READ_BY[field]), meaning


def _default(field: str) -> str:
    # The host's name differs from machine to machine; the meaning tells of it.
    value = None if field == "node" else getattr(Settings(), field)
    if value is None or value in ("", ()):
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
