"""Images that callers leave with the service, to be named in later requests: in a folder per day, so that they can go.

No job owns them, so no job's end takes them along. Their links are good for a day; what a request names by its link is
copied into the job's own folder.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Final

from shared.spec import INPUT_PREFIX

#: Seconds that a link to such an image is good for.
KEPT_S: Final = 24 * 3600
#: A day's last link ends with the day after; folders older than that go. So many of them are looked for, which is how
#: long every courier may be away without leaving one behind.
LOOKED_FOR_DAYS: Final = 30


def kept_key(handle: str, *, now_s: float) -> str:
    """Return where an image that is left now is stored."""
    return f"{_folder(_day(now_s))}/{handle}/image.png"


def outdated(*, now_s: float) -> list[str]:
    """Return the folders whose links have all ended, the latest first."""
    return [_folder(_day(now_s) - timedelta(days=2 + back)) for back in range(LOOKED_FOR_DAYS)]


def _folder(day: date) -> str:
    return f"{INPUT_PREFIX}kept-{day:%Y%m%d}"


def _day(now_s: float) -> date:
    return datetime.fromtimestamp(now_s, UTC).date()
