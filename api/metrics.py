"""`GET /metrics` for Prometheus, and what the API counts of its requests.

Only METRICS_TOKEN opens it: an API key belongs to one account, and these are figures of the whole service.
"""

import hmac
import time
from typing import Final

from flask import Blueprint, Flask, Response, abort, g, request
from prometheus_client import CONTENT_TYPE_LATEST

from api.auth import bearer_key
from api.responses import ERROR_CODE
from api.services import services
from shared.errors import Unauthorized
from shared.metrics import HTTP_ERRORS, HTTP_REQUESTS, HTTP_SECONDS
from shared.metrics.exposition import exposition

#: The part of the API that a request was for, where there is none.
NOWHERE: Final = "none"
_BEGUN: Final = "begun"

metrics = Blueprint("metrics", __name__)


@metrics.get("/metrics")
def scrape() -> Response:
    """Answer what all processes of the API have counted, and how the queue stands."""
    token = services().settings.metrics_token
    if not token:
        abort(404)
    if not hmac.compare_digest(bearer_key(request.headers.get("Authorization", "")).encode(), token.encode()):
        raise Unauthorized("METRICS_TOKEN opens this: send it as `Authorization: Bearer TOKEN`.")
    return Response(
        exposition([services().standing]),
        content_type=CONTENT_TYPE_LATEST,
        headers={"Cache-Control": "no-store"},
    )


def install(app: Flask) -> None:
    """Count every request of an app."""
    app.before_request(_begin)
    app.after_request(_count)


def _begin() -> None:
    setattr(g, _BEGUN, time.perf_counter())


def _count(response: Response) -> Response:
    # The blueprint, not the path: paths are the callers'.
    surface = request.blueprint or NOWHERE
    HTTP_REQUESTS.labels(surface, str(response.status_code)).inc()
    HTTP_SECONDS.labels(surface).observe(time.perf_counter() - g.get(_BEGUN, time.perf_counter()))
    if (code := g.get(ERROR_CODE)) is not None:
        HTTP_ERRORS.labels(surface, code).inc()
    return response
