"""The storage contract, on a local folder and on a real S3 endpoint."""

import threading
import time
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import requests

from shared.errors import StorageUnavailable
from shared.settings import Settings
from shared.storage import StoredObject, check_key, open_storage
from shared.storage.disk import DiskStorage, LinkExpired, LinkInvalid
from shared.storage.s3 import S3Storage
from tests.services import free_port, s3, wait_until

SECRET = "a secret of the tests"
HANDLE = "0123456789abcdef0123456789abcdef"
KEY = f"results/{HANDLE}/1/0.png"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8


@pytest.fixture(scope="session")
def endpoint():
    with s3() as running:
        yield running


@pytest.fixture
def bucket(endpoint, request, monkeypatch):
    """Credentials for the endpoint, and a bucket name of the test's own."""
    for name, value in endpoint.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return f"test-{abs(hash(request.node.nodeid))}"


@pytest.fixture(params=["disk", "s3"])
def storage(request, tmp_path):
    if request.param == "disk":
        return DiskStorage(tmp_path / "storage", base_url="https://api.example", secret=SECRET)
    return S3Storage(request.getfixturevalue("bucket"), endpoint_url=request.getfixturevalue("endpoint").url)


def opened(storage, url):
    """Follow a link the way its readers do."""
    if isinstance(storage, DiskStorage):
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return storage.open_link(
            unquote(parts.path).removeprefix("/media/"),
            int(query["expires"]),
            query["signature"],
            query.get("filename"),
        )
    answer = requests.get(url, timeout=60)
    answer.raise_for_status()
    return StoredObject(answer.content, answer.headers["Content-Type"])


def test_what_is_put_comes_back(storage):
    storage.put(KEY, PNG, content_type="image/png", metadata={"engine": "torch 2"})

    assert storage.get(KEY) == StoredObject(PNG, "image/png")


def test_an_equal_key_is_overwritten(storage):
    storage.put(KEY, b"first", content_type="image/png")
    storage.put(KEY, b"second", content_type="image/png")

    assert storage.get(KEY).data == b"second"


def test_an_empty_object_is_an_object(storage):
    storage.put("inputs/empty.json", b"", content_type="application/json")

    assert storage.get("inputs/empty.json") == StoredObject(b"", "application/json")


@pytest.mark.parametrize("key", ["results/none.png", "results", KEY + "/0.png"])
def test_a_missing_object_is_a_key_error(storage, key):
    storage.put(KEY, PNG, content_type="image/png")

    with pytest.raises(KeyError):
        storage.get(key)


def test_before_anything_was_stored_nothing_is_there(storage):
    with pytest.raises(KeyError):
        storage.get(KEY)
    assert storage.delete_prefix("results") == 0


def test_a_link_opens_its_object_until_it_says(storage):
    storage.put(KEY, PNG, content_type="image/png")
    before = int(time.time())

    link = storage.link(KEY, ttl_s=600)

    assert opened(storage, link.url) == StoredObject(PNG, "image/png")
    assert link.expires_ms >= (before + 600) * 1000
    assert link.expires_ms % 1000 == 0


def test_a_link_may_name_the_file(storage):
    storage.put(KEY, PNG, content_type="image/png")

    link = storage.link(KEY, ttl_s=600, filename="fox-0.png")

    assert "fox-0.png" in link.url
    assert opened(storage, link.url).data == PNG


def test_a_link_for_another_object_does_not_open_this_one(storage):
    storage.put(KEY, PNG, content_type="image/png")
    other = KEY.replace("0.png", "1.png")

    forged = storage.link(other, ttl_s=600).url.replace("1.png", "0.png")

    with pytest.raises((LinkInvalid, requests.HTTPError)):
        opened(storage, forged)


def test_a_prefix_deletes_what_lies_under_it_and_nothing_beside(storage):
    kept = [f"results/{HANDLE}0/1/0.png", f"results/{HANDLE}.png", "inputs/0.png"]
    gone = [f"results/{HANDLE}/1/0.png", f"results/{HANDLE}/1/1.png", f"results/{HANDLE}/2/0.png"]
    for key in kept + gone:
        storage.put(key, PNG, content_type="image/png")

    assert storage.delete_prefix(f"results/{HANDLE}") == 3

    for key in gone:
        with pytest.raises(KeyError):
            storage.get(key)
    for key in kept:
        assert storage.get(key).data == PNG
    assert storage.delete_prefix(f"results/{HANDLE}") == 0


BAD_KEYS = [
    "", "/", "/etc/passwd", "a//b", "a/", "../a", "a/../b", "a/..", ".", "a/./b", ".hidden", "a/.hidden",
    "a\\b", "a\0b", "a\nb", "a b", "a?b", "a#b", "a%2fb", "é", "a" * 129, "/".join("a" * 17),
]  # fmt: skip


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_could_lead_elsewhere_is_none(key):
    with pytest.raises(ValueError, match="is no storage key"):
        check_key(key)


def test_every_method_checks_its_key(storage):
    for key in BAD_KEYS:
        for action in (
            lambda key: storage.put(key, b"", content_type="application/octet-stream"),
            storage.get,
            lambda key: storage.link(key, ttl_s=60),
            storage.delete_prefix,
        ):
            with pytest.raises(ValueError, match="is no storage key"):
                action(key)


def test_a_filename_cannot_break_out_of_its_header(storage):
    for filename in ['a"b.png', "a/b.png", "a\r\nX: y", "", ".htaccess"]:
        with pytest.raises(ValueError, match="is no file name"):
            storage.link(KEY, ttl_s=60, filename=filename)


def test_a_suffix_and_a_content_type_must_agree(storage):
    with pytest.raises(ValueError, match="image/png"):
        storage.put(KEY, PNG, content_type="image/jpeg")


def test_a_check_says_whether_an_object_could_be_stored(storage):
    storage.check()
    storage.put(KEY, PNG, content_type="image/png")
    storage.check()


def test_many_threads_may_put_the_same_key(storage):
    bodies = [bytes([n]) * 50_000 for n in range(8)]
    failures = []

    def put(body):
        try:
            storage.put(KEY, body, content_type="image/png")
        except StorageUnavailable as error:
            failures.append(error)

    threads = [threading.Thread(target=put, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert storage.get(KEY).data in bodies


class TestDisk:
    @pytest.fixture
    def root(self, tmp_path):
        return tmp_path / "storage"

    @pytest.fixture
    def disk(self, root):
        return DiskStorage(root, base_url="https://api.example/", secret=SECRET)

    def parts(self, link):
        query = parse_qs(urlsplit(link.url).query)
        return int(query["expires"][0]), query["signature"][0]

    def test_an_expired_link_says_so(self, disk):
        disk.put(KEY, PNG, content_type="image/png")
        expires, signature = self.parts(disk.link(KEY, ttl_s=-1))

        with pytest.raises(LinkExpired):
            disk.open_link(KEY, expires, signature)

    @pytest.mark.parametrize("change", ["key", "expires", "filename", "signature", "secret"])
    def test_a_changed_link_is_invalid(self, disk, root, change):
        disk.put(KEY, PNG, content_type="image/png")
        disk.put("results/other.png", PNG, content_type="image/png")
        expires, signature = self.parts(disk.link(KEY, ttl_s=600, filename="a.png"))
        given = {"key": KEY, "expires": expires, "signature": signature, "filename": "a.png"}
        changed = {
            "key": "results/other.png",
            "expires": expires + 1,
            "filename": None,
            "signature": signature[:-2] + ("AA" if signature[-2:] != "AA" else "BB"),
        }
        if change == "secret":
            disk = DiskStorage(root, base_url="https://api.example", secret="another secret")
        else:
            given[change] = changed[change]

        with pytest.raises(LinkInvalid):
            disk.open_link(**given)

    @pytest.mark.parametrize("signature", ["", "é", "\0", "a" * 10_000])
    def test_any_text_may_come_as_a_signature(self, disk, signature):
        with pytest.raises(LinkInvalid):
            disk.open_link(KEY, 2**62, signature)

    def test_a_link_to_a_deleted_object_is_a_key_error(self, disk):
        expires, signature = self.parts(disk.link(KEY, ttl_s=600))

        with pytest.raises(KeyError):
            disk.open_link(KEY, expires, signature)

    def test_a_symbolic_link_does_not_lead_out(self, disk, root, tmp_path):
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "0.png").write_bytes(b"secret")
        (root / "results").mkdir(parents=True)
        (root / "results" / "way-out").symlink_to(outside)
        (root / "results" / "0.png").symlink_to(outside / "0.png")

        with pytest.raises(StorageUnavailable):
            disk.get("results/way-out/0.png")
        with pytest.raises(StorageUnavailable):
            disk.get("results/0.png")
        with pytest.raises(StorageUnavailable):
            disk.put("results/way-out/1.png", b"", content_type="image/png")
        with pytest.raises(StorageUnavailable):
            disk.delete_prefix("results/way-out")
        assert (outside / "0.png").read_bytes() == b"secret"
        assert disk.delete_prefix("results") == 1
        assert (outside / "0.png").exists()

    def test_the_folder_itself_may_be_a_symbolic_link(self, tmp_path):
        (tmp_path / "volume").mkdir()
        (tmp_path / "storage").symlink_to(tmp_path / "volume")
        disk = DiskStorage(tmp_path / "storage", base_url="", secret=SECRET)

        disk.put(KEY, PNG, content_type="image/png")

        assert disk.get(KEY).data == PNG

    def test_a_failed_put_leaves_the_old_object_and_no_rest(self, disk, root, monkeypatch):
        disk.put(KEY, b"old", content_type="image/png")

        def full(_descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("shared.storage.disk.os.fsync", full)
        with pytest.raises(StorageUnavailable, match="No space left on device"):
            disk.put(KEY, b"new", content_type="image/png")

        assert disk.get(KEY).data == b"old"
        assert [path.name for path in (root / KEY).parent.iterdir()] == ["0.png"]

    def test_a_folder_that_cannot_be_made_is_an_outage(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        disk = DiskStorage(tmp_path / "file" / "storage", base_url="", secret=SECRET)

        with pytest.raises(StorageUnavailable):
            disk.check()
        with pytest.raises(StorageUnavailable):
            disk.put(KEY, PNG, content_type="image/png")


class TestS3:
    @pytest.fixture
    def store(self, endpoint, bucket):
        return S3Storage(bucket, endpoint_url=endpoint.url)

    def test_content_type_and_metadata_are_stored(self, store, bucket):
        store.put(KEY, PNG, content_type="image/png", metadata={"model": "demo"})

        head = store._client.head_object(Bucket=bucket, Key=KEY)

        assert head["ContentType"] == "image/png"
        # Names travel as HTTP headers, so their case is nobody's promise.
        assert {name.lower(): value for name, value in head["Metadata"].items()}["model"] == "demo"

    def test_a_check_makes_the_bucket(self, store, bucket, endpoint):
        store.check()

        assert (endpoint.data_dir / bucket).is_dir()

    def test_a_link_is_presigned_for_the_bucket_in_the_path(self, store, bucket, endpoint):
        store.check()

        parts = urlsplit(store.link(KEY, ttl_s=600, filename="fox.png").url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}

        assert f"{parts.scheme}://{parts.netloc}" == endpoint.url
        assert parts.path == f"/{bucket}/{KEY}"
        assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
        assert query["X-Amz-Expires"] == "600"
        assert query["response-content-disposition"] == 'inline; filename="fox.png"'

    def test_an_object_cannot_be_read_without_its_link(self, store):
        store.put(KEY, PNG, content_type="image/png")

        bare = store.link(KEY, ttl_s=600).url.partition("?")[0]

        assert requests.get(bare, timeout=60).status_code in {400, 403}

    def test_a_presigned_link_runs_out(self, store):
        store.put(KEY, PNG, content_type="image/png")

        url = store.link(KEY, ttl_s=1).url

        wait_until(lambda: requests.get(url, timeout=60).status_code in {400, 403}, what="the link's end")

    def test_a_link_tells_browsers_the_files_name(self, store):
        store.put(KEY, PNG, content_type="image/png")

        answer = requests.get(store.link(KEY, ttl_s=600, filename="fox.png").url, timeout=60)

        assert answer.headers["Content-Disposition"] == 'inline; filename="fox.png"'

    def test_links_bear_the_address_that_callers_use(self, endpoint, bucket):
        store = S3Storage(bucket, endpoint_url=endpoint.url, public_endpoint_url="https://images.example")

        assert store.link(KEY, ttl_s=60).url.startswith(f"https://images.example/{bucket}/{KEY}?")

    def test_wrong_credentials_are_an_outage(self, endpoint, bucket, monkeypatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
        store = S3Storage(bucket, endpoint_url=endpoint.url)

        with pytest.raises(StorageUnavailable):
            store.check()
        with pytest.raises(StorageUnavailable):
            store.put(KEY, PNG, content_type="image/png")
        with pytest.raises(StorageUnavailable):
            store.get(KEY)

    def test_a_store_that_is_away_is_an_outage(self, bucket):
        store = S3Storage(bucket, endpoint_url=f"http://127.0.0.1:{free_port()}")

        with pytest.raises(StorageUnavailable):
            store.get(KEY)


def test_the_settings_choose_the_storage(tmp_path, bucket, endpoint):
    local, remote = Settings(data_dir=tmp_path), Settings(s3_bucket=bucket, s3_endpoint_url=endpoint.url)

    open_storage(local, secret=SECRET).check()

    assert (tmp_path / "storage").is_dir()
    assert isinstance(open_storage(local, secret=SECRET), DiskStorage)
    assert isinstance(open_storage(remote, secret=SECRET), S3Storage)


def test_a_file_is_stored_from_where_it_stands(storage, tmp_path):
    key = f"archives/{HANDLE}/1/0001.zip"
    (tmp_path / "part").write_bytes(b"skipped" + PNG * 2000)
    with (tmp_path / "part").open("rb") as part:
        part.seek(7)
        storage.put_file(key, part, content_type="application/zip")

    assert storage.get(key) == StoredObject(PNG * 2000, "application/zip")
    assert opened(storage, storage.link(key, ttl_s=60, filename="batch-1.zip").url).data == PNG * 2000
    with (tmp_path / "part").open("rb") as part, pytest.raises(ValueError, match="names application/zip"):
        storage.put_file(key, part, content_type="image/png")
