"""REDIS_URL: which are taken, and that TLS is verified by every kind of connection."""

import ssl

import pytest
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.sentinel import SentinelConnectionPool

from shared.celery_app import make_celery
from shared.errors import ConfigurationError
from shared.redis_client import connect
from shared.redis_url import SentinelUrl
from shared.settings import Settings


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://:pw@host:6390/1", Connection),
        ("rediss://:pw@host:6390/1", SSLConnection),
        ("unix:///run/redis.sock", UnixDomainSocketConnection),
    ],
)
def test_the_backlogs_connections(url, kind):
    with connect(Settings.from_env({"REDIS_URL": url})) as redis:
        assert redis.connection_pool.connection_class is kind


@pytest.mark.parametrize("query", ["", "?ssl_ca_certs=/etc/ca.pem"])
def test_tls_is_verified_by_the_backlogs_connections(query):
    with connect(Settings.from_env({"REDIS_URL": f"rediss://host/0{query}"})) as redis:
        connection = redis.connection_pool.connection_class(**redis.connection_pool.connection_kwargs)

    assert connection.cert_reqs == ssl.CERT_REQUIRED
    assert connection.check_hostname
    assert connection.ca_certs == (query.partition("=")[2] or None)


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", {"ssl_cert_reqs": ssl.CERT_REQUIRED}),
        # redis-py's own default is to verify: only kombu's must be overruled, which knows no options of ours then.
        ("?ssl_ca_certs=/etc/ca.pem", {"ssl_ca_certs": "/etc/ca.pem"}),
    ],
)
def test_tls_is_verified_by_celerys_connections(query, options, caplog):
    app = make_celery(Settings.from_env({"REDIS_URL": f"rediss://host/0{query}"}))
    with app.connection_for_write() as connection:
        assert connection.ssl == options
        connected = SSLConnection(host="host", **connection.ssl)

    assert connected.cert_reqs == ssl.CERT_REQUIRED
    assert connected.check_hostname
    assert "insecure" not in caplog.text


def test_plain_connections_ask_for_no_tls():
    with make_celery(Settings.from_env({"REDIS_URL": "redis://host/0"})).connection_for_write() as connection:
        assert not connection.ssl


SENTINELS = "redis+sentinel://me:p%40ss@one:26380,two,[fd00::1]:26381/main/3?sentinel_password=s%26t"


def test_a_url_of_sentinels():
    url = SentinelUrl.parse(SENTINELS)

    assert url.sentinels == (("one", 26380), ("two", 26379), ("fd00::1", 26381))
    assert (url.service, url.database, url.username, url.password) == ("main", 3, "me", "p@ss")
    assert url.sentinel_password == "s&t"
    assert "p@ss" not in repr(url)
    assert "s&t" not in repr(url)


def test_the_backlogs_connections_ask_sentinels():
    with connect(Settings.from_env({"REDIS_URL": SENTINELS})) as redis:
        pool = redis.connection_pool

    assert isinstance(pool, SentinelConnectionPool)
    assert (pool.service_name, pool.is_master) == ("main", True)
    assert {key: pool.connection_kwargs[key] for key in ("db", "username", "password")} == {
        "db": 3,
        "username": "me",
        "password": "p@ss",
    }


def test_celerys_connections_ask_the_same_sentinels():
    app = make_celery(Settings.from_env({"REDIS_URL": SENTINELS}))
    with app.connection_for_write() as connection:
        assert connection.transport_cls == "sentinel"
        assert (connection.userid, connection.password, connection.virtual_host) == ("me", "p@ss", "3")
        assert len(connection.alt) == 3
    assert app.conf.broker_transport_options["master_name"] == "main"


@pytest.mark.parametrize(
    "url",
    [
        *("sentinel://host:26379/main", "http://host/", "host:6379", "rediss:"),
        *("redis+sentinel://host:26379", "redis+sentinel:///main", "redis+sentinel://host,/main"),
        *("redis+sentinel://host/main/x", "redis+sentinel://host:99999/main", "redis+sentinel://host/main?ssl=yes"),
    ],
)
def test_other_urls_stop_the_start(url):
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        Settings.from_env({"REDIS_URL": url})
