"""Loads the Lua scripts and runs them; turns Redis' own failures into ours."""

from importlib.resources import files
from typing import Any, Final

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.errors import BacklogUnavailable

#: What Redis raises when it cannot serve us now, as opposed to a fault of ours.
OUTAGES: Final = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OutOfMemoryError)

_FOLDER = files("shared.backlog") / "scripts"


class Script:
    """One Lua file, with the prelude before it."""

    def __init__(self, name: str, *, prelude: bool = True) -> None:
        self.name = name
        body = (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
        self._source = (_FOLDER / "_prelude.lua").read_text(encoding="utf-8") + body if prelude else body
        self._sha = ""

    def __call__(self, redis: Redis, *args: str | float) -> Any:
        """Run it; `BacklogUnavailable` where Redis cannot be reached or cannot write."""
        try:
            if not self._sha:
                self._sha = str(redis.script_load(self._source))
            try:
                return redis.evalsha(self._sha, 0, *args)
            except NoScriptError:  # Redis was restarted or its scripts were flushed
                self._sha = str(redis.script_load(self._source))
                return redis.evalsha(self._sha, 0, *args)
        except OUTAGES as error:
            raise BacklogUnavailable from error
