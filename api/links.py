"""Links in answers: absolute, on PUBLIC_URL where it is set and else on the host the caller reached us by."""

from dataclasses import dataclass

from flask import request

from api.services import services
from shared.dialects import Links
from shared.storage import SignedLink


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestLinks(Links):
    """Links for the caller of this request. Those into our own media route bear the same host."""

    #: What links into our own media route begin with, as the storage makes them.
    media_url: str

    def file(self, key: str, *, filename: str) -> SignedLink:
        """Return a link to a stored object."""
        link = Links.file(self, key, filename=filename)
        if not link.url.startswith(self.media_url):
            return link
        return SignedLink(f"{self.base_url}/media/{link.url.removeprefix(self.media_url)}", link.expires_ms)


def own_base_url() -> str:
    """Return where this caller reaches us. No trailing slash."""
    return services().settings.public_url or request.host_url.rstrip("/")


def request_links(*, ttl_s: int | None = None) -> RequestLinks:
    """Return the links for the caller of this request; those to images last `ttl_s` seconds, else LINK_TTL_S."""
    parts = services()
    return RequestLinks(
        base_url=own_base_url(),
        storage=parts.storage,
        ttl_s=parts.settings.link_ttl_s if ttl_s is None else ttl_s,
        media_url=f"{parts.settings.base_url}/media/",
    )
