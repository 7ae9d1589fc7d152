"""Storage in a bucket of Amazon S3 or of a store that speaks its protocol.

Credentials and region are boto3's own: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, profiles, roles.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import StorageUnavailable
from shared.settings import Settings
from shared.storage import SignedLink, StoredObject, check_content_type, check_filename, check_key

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

#: How a store says that there is no such object or bucket; HEAD has no body and only says 404.
_NO_OBJECT: Final = frozenset({"NoSuchKey", "404"})
_NO_BUCKET: Final = frozenset({"NoSuchBucket", "404"})
#: How a store says that the bucket has come into being meanwhile.
_BUCKET_EXISTS: Final = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})


class S3Storage:
    """Objects in one bucket, made at first use where it is missing."""

    def __init__(self, bucket: str, *, endpoint_url: str = "", public_endpoint_url: str = "") -> None:
        self._bucket = bucket
        self._client = _client(endpoint_url)
        # A link's host is part of what is signed, so links are signed for the address that callers use.
        self._signer = _client(public_endpoint_url) if public_endpoint_url else self._client

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the storage that S3_BUCKET, S3_ENDPOINT_URL and S3_PUBLIC_ENDPOINT_URL name."""
        return cls(
            settings.s3_bucket,
            endpoint_url=settings.s3_endpoint_url,
            public_endpoint_url=settings.s3_public_endpoint_url,
        )

    def put(self, key: str, data: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None) -> None:
        """Upload an object; S3 shows it when it is complete."""
        self._put_into_bucket(lambda: self._put(key, data, content_type, metadata or {}), key)

    def put_file(self, key: str, file: BinaryIO, *, content_type: str) -> None:
        """Upload a file, which is read as it is sent."""
        begin = file.tell()

        def put() -> None:
            file.seek(begin)
            self._put(key, file, content_type, {})

        self._put_into_bucket(put, key)

    def get(self, key: str) -> StoredObject:
        """Download an object; `KeyError` where there is none."""
        with _translated(f"read {key}"):
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=check_key(key))
                with found["Body"] as body:
                    return StoredObject(body.read(), found["ContentType"])
            except ClientError as error:
                if _code(error) in _NO_OBJECT | _NO_BUCKET:
                    raise KeyError(key) from error
                raise

    def link(self, key: str, *, ttl_s: int, filename: str | None = None) -> SignedLink:
        """Return a presigned GET. Made without a call to the store."""
        parameters = {"Bucket": self._bucket, "Key": check_key(key)}
        if filename is not None:
            parameters["ResponseContentDisposition"] = f'inline; filename="{check_filename(filename)}"'
        expires_ms = (int(time.time()) + ttl_s) * 1000
        with _translated(f"link {key}"):
            url = self._signer.generate_presigned_url("get_object", Params=parameters, ExpiresIn=ttl_s)
        return SignedLink(url, expires_ms)

    def delete_prefix(self, prefix: str) -> int:
        """Delete one by one: not every store has S3's bulk call, and a job has few objects."""
        count = 0
        with _translated(f"delete {prefix}"):
            pages = self._client.get_paginator("list_objects_v2")
            try:
                for page in pages.paginate(Bucket=self._bucket, Prefix=f"{check_key(prefix)}/"):
                    for found in page.get("Contents", ()):
                        self._client.delete_object(Bucket=self._bucket, Key=found["Key"])
                        count += 1
            except ClientError as error:
                if _code(error) not in _NO_BUCKET:
                    raise
        return count

    def check(self) -> None:
        """Look for the bucket, and make it where it is missing."""
        with _translated("find the bucket"):
            try:
                self._client.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if _code(error) not in _NO_BUCKET:
                    raise
                self._create_bucket()

    def _put_into_bucket(self, put: Callable[[], None], key: str) -> None:
        with _translated(f"store {key}"):
            try:
                put()
            except ClientError as error:
                if _code(error) not in _NO_BUCKET:
                    raise
                self._create_bucket()
                put()

    def _put(self, key: str, body: bytes | BinaryIO, content_type: str, metadata: Mapping[str, str]) -> None:
        self._client.put_object(
            Bucket=self._bucket,
            Key=check_key(key),
            Body=body,
            ContentType=check_content_type(key, content_type),
            Metadata=dict(metadata),
        )

    def _create_bucket(self) -> None:
        try:
            self._client.create_bucket(Bucket=self._bucket)
        except ClientError as error:
            if _code(error) not in _BUCKET_EXISTS:
                raise StorageUnavailable(
                    f"S3_BUCKET: there is no bucket {self._bucket!r}, and it could not be made: {error}"
                ) from error


def _client(endpoint_url: str) -> "S3Client":
    # Other stores seldom answer at bucket.host, and not all know the checksums newer clients send by default.
    style: Literal["path", "auto"] = "path" if endpoint_url else "auto"
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": style},
        retries={"mode": "standard", "max_attempts": 4},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=32,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.session.Session().client("s3", endpoint_url=endpoint_url or None, config=config)


@contextmanager
def _translated(action: str) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise StorageUnavailable(f"could not {action}: {error}") from error


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")
