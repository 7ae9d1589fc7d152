"""What was used last, as far as it fits into so much memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """Values by key with their sizes in bytes; the one used longest ago goes first. The newest always stays."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Hashable]:
        """Iterate over the keys, the one used longest ago first."""
        return iter(self._values)

    @property
    def size(self) -> int:
        """Bytes of all values together."""
        return sum(size for _, size in self._values.values())

    def get(self, key: Hashable) -> Value | None:
        """Return the value, which counts as a use, or None."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: Hashable, value: Value, *, size: int) -> None:
        """Keep a value, and let go what does not fit beside it."""
        self._values.pop(key, None)
        self.make_room(size)
        self._values[key] = (value, size)

    def make_room(self, size: int) -> None:
        """Let go what does not fit beside so many bytes more."""
        while self._values and self.size + size > self._limit:
            self._values.popitem(last=False)
