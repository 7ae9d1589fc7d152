"""Links in answers: absolute, on PUBLIC_URL where it is set and else on the host the caller reached us by."""

from flask import request

from api.services import services
from shared.dialects import Links
from shared.storage import SignedLink


class RequestLinks(Links):
    """Links for the caller of this request. Those into our own media route bear the same host."""

    def file(self, key: str, *, filename: str) -> SignedLink:
        """Return a link to a stored object."""
        link = Links.file(self, key, filename=filename)
        ours = f"{services().settings.base_url}/media/"
        if not link.url.startswith(ours):
            return link
        return SignedLink(f"{self.base_url}/media/{link.url.removeprefix(ours)}", link.expires_ms)


def own_base_url() -> str:
    """Return where this caller reaches us. No trailing slash."""
    return services().settings.public_url or request.host_url.rstrip("/")


def request_links() -> RequestLinks:
    """Return the links for the caller of this request."""
    parts = services()
    return RequestLinks(base_url=own_base_url(), storage=parts.storage, ttl_s=parts.settings.link_ttl_s)
