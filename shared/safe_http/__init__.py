"""Outbound HTTP to addresses that callers choose, which cannot be turned inward.

A caller's URL may name anything, so: http and https only; ports 80, 443 and those from 1024 up (below lie mail,
shells and directories, which can be made to misread HTTP); no credentials; the name is resolved once, every address
is judged, and the connection is made to a judged address, so a name that changes its mind gains nothing; redirects
of a POST are not followed, those of a GET a few times, each judged like the first; no cookies, no referrer; proxies and
`.netrc` are not consulted; time and bytes are bounded from first to last.

Networks in OUTBOUND_ALLOW may be reached although they are private.

`target` takes URLs apart, `lookup` and `connection` lead to a judged address, `deadline` bounds the time, `exchange`
asks and reads, `client` puts them together.
"""

from shared.safe_http.client import MAX_REDIRECTS, Answer, Download, SafeHttp
from shared.safe_http.exchange import EXCERPT_BYTES
from shared.safe_http.failures import OutboundFailed
from shared.safe_http.lookup import Resolve, look_up
from shared.safe_http.target import Target, check_url, is_allowed, is_https

__all__ = [
    "EXCERPT_BYTES",
    "MAX_REDIRECTS",
    "Answer",
    "Download",
    "OutboundFailed",
    "Resolve",
    "SafeHttp",
    "Target",
    "check_url",
    "is_allowed",
    "is_https",
    "look_up",
]
