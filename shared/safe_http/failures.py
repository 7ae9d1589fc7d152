"""How outbound calls fail, whatever the library below calls it."""

import http.client
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import ServiceError


class OutboundFailed(ServiceError):
    """The receiver could not be reached."""

    code = "outbound_failed"


@contextmanager
def translated() -> Iterator[None]:
    """Turn what sockets, TLS and HTTP raise into `OutboundFailed`."""
    try:
        yield
    except TimeoutError as error:
        raise OutboundFailed("The receiver took too long to answer.") from error
    except ssl.SSLCertVerificationError as error:
        raise OutboundFailed(f"The receiver's certificate is not valid: {error.verify_message}.") from error
    except ssl.SSLError as error:
        raise OutboundFailed("No secure connection could be made.") from error
    except (OSError, http.client.HTTPException) as error:
        raise OutboundFailed("The receiver did not send a valid answer.") from error
