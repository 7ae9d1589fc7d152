"""The links in what we answer: to the API's own routes, and to stored images."""

from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote

from shared.job import Artifact
from shared.settings import Settings
from shared.storage import SignedLink, Storage

#: Content type -> the suffix of a downloaded file.
SUFFIXES: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """Makes links. Those to images are signed anew each time, and open them for `ttl_s` seconds."""

    base_url: str
    storage: Storage
    ttl_s: int

    @classmethod
    def from_settings(cls, settings: Settings, storage: Storage) -> Self:
        """Return the links of this installation."""
        return cls(base_url=settings.base_url, storage=storage, ttl_s=settings.link_ttl_s)

    def api(self, *parts: str | int) -> str:
        """Return the absolute URL of an API route, given its path's parts."""
        return "/".join([self.base_url, *(quote(str(part), safe="") for part in parts)])

    def image(self, artifact: Artifact, *, name: str) -> SignedLink:
        """Return a link to a stored image, which browsers save as `name` with the right suffix."""
        suffix = SUFFIXES.get(artifact.content_type, "bin")
        return self.file(artifact.key, filename=f"{name}.{suffix}")

    def file(self, key: str, *, filename: str) -> SignedLink:
        """Return a link to a stored object, which browsers save as `filename`."""
        return self.storage.link(key, ttl_s=self.ttl_s, filename=filename)
