"""Signed sessions: what a login with a client token and its secret gives, good for three days."""

from typing import Final

from itsdangerous import BadSignature, URLSafeTimedSerializer

from shared.errors import Unauthorized

SESSION_S: Final = 72 * 3600
_SALT: Final = "session"


class Sessions:
    """Makes and reads session tokens. They hold the account's id and the client token, signed, and nothing secret.

    What a session opens is up to its client's key, and ends with it.
    """

    def __init__(self, secret: str) -> None:
        self._serializer = URLSafeTimedSerializer(secret, salt=_SALT)

    def issue(self, account: str, *, client: str) -> str:
        """Return a token for an account, and the client that logged in."""
        return str(self._serializer.dumps([account, client]))

    def client(self, token: str) -> str:
        """Return the client that a token was issued to; `Unauthorized` where it is forged, malformed or too old."""
        try:
            _, client = self._serializer.loads(token, max_age=SESSION_S)
        except BadSignature as error:  # SignatureExpired is one
            raise Unauthorized from error
        return str(client)
