"""Waits until the API says that everything is there."""

import asyncio
from collections.abc import Callable
from typing import Final

import requests

_PROBE_EVERY_S: Final = 0.2
_PROBE_TIMEOUT_S: Final = 5.0


async def ready(api_url: str, *, tell: Callable[[str], None]) -> None:
    """Return once `GET /readyz` is 200; tell what is missing whenever that changes."""
    told = ""
    with requests.Session() as session:
        session.trust_env = False  # the service is on this machine: no proxy, no .netrc
        while missing := await asyncio.to_thread(_missing, session, f"{api_url}/readyz"):
            if missing != told:
                tell(f"waiting for {missing}")
                told = missing
            await asyncio.sleep(_PROBE_EVERY_S)


def _missing(session: requests.Session, url: str) -> str:
    """Return what is not there yet, in words; nothing where all is."""
    try:
        answer = session.get(url, timeout=_PROBE_TIMEOUT_S)
    except requests.RequestException:
        return "the API"
    if answer.ok:
        return ""
    try:
        body = answer.json()
    except requests.JSONDecodeError:
        return f"the API (it answers {answer.status_code})"
    return ", ".join(body.get("missing", ())) or str(body.get("detail", answer.status_code))
