"""The native API's view of an account's API keys, `/v1/keys`; for keys with the scope `admin`."""

from typing import Any

from flask import Response
from marshmallow import Schema, fields

from api.auth import current_account, require_admin
from api.documents import TIME
from api.responses import PRIVATE, json_response
from api.services import services
from api.spec import StrictBlueprint
from shared.api_keys import KeyInfo, Scope
from shared.dialects.native import rfc3339

PREFIX_DOC = {"in": "path", "name": "prefix", "description": "The key's first ten characters."}

keys = StrictBlueprint(
    "keys", __name__, url_prefix="/v1", description="Your account's keys. This needs a key with the scope `admin`."
)
keys.before_request(require_admin)


def _text(description: str, **more: Any) -> fields.String:
    metadata = {"description": description, **more.pop("metadata", {})}
    return fields.String(required=True, metadata=metadata, **more)


def _time(description: str) -> fields.String:
    return _text(description, allow_none=True, metadata={"format": TIME})


class KeyDocument(Schema):
    """A key, which itself is told once, when it is made."""

    prefix = _text("Its first ten characters, which name it.")
    name = _text("What whoever made it called it; may be empty.")
    scopes = fields.List(
        fields.String(metadata={"enum": [*Scope]}), required=True, metadata={"description": "What it may do."}
    )
    created_at = _text("When it was made.", metadata={"format": TIME})
    used_at = _time("When it was last used, give or take a minute; null: never.")
    expires_at = _time("From when on it opens nothing; null: never.")


class KeyListDocument(Schema):
    """The account's keys, the oldest first; those that have expired among them."""

    data = fields.List(fields.Nested(KeyDocument), required=True)


@keys.route("/keys", methods=["GET"])
@keys.response(200, KeyListDocument)
@keys.problems()
def list_keys() -> Response:
    """List your account's keys: what they may do, when they were last used, and until when they open anything."""
    found = services().keys.of_account(current_account().id)
    return json_response({"data": [_told(each) for each in found]}, headers=PRIVATE)


@keys.route("/keys/<prefix>", parameters=[PREFIX_DOC], methods=["DELETE"])
@keys.response(204, description="It opens nothing from now on, and neither do its client's sessions.")
@keys.problems(404)
def revoke(prefix: str) -> Response:
    """Withdraw a key of your account's.

    It counts at once, in every process of the service. A key may withdraw itself.
    """
    services().keys.revoke(prefix, account=current_account().id)
    return Response(status=204)


def _told(key: KeyInfo) -> dict[str, Any]:
    return {
        "prefix": key.prefix,
        "name": key.name,
        "scopes": list(key.scopes),
        "created_at": rfc3339(key.created_ms),
        "used_at": rfc3339(key.used_ms),
        "expires_at": rfc3339(key.expires_ms),
    }
