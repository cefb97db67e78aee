"""A Redis URL is taken as its author means it, or refused without showing anything of it."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import SSLConnection

from streams.settings.redis_url import RedisUrlError, check_redis_url, shown_redis_url

TAKEN = [
    ("redis://host", "redis://host"),
    ("redis://host:6379/0", "redis://host:6379/0"),
    ("redis://:hunter2@host:6379/0", "redis://host:6379/0"),
    ("redis://hunter2@host", "redis://host"),
    ("redis://me:hunter2%40%2F%23@my_redis.internal:6380/3", "redis://my_redis.internal:6380/3"),
    ("redis://me:hun:ter2@[::1]:6379/0?socket_timeout=2.5", "redis://[::1]:6379/0"),
    ("redis://host?db=2&password=hunter2&client_name=me", "redis://host"),
    (
        "rediss://host/1?ssl_cert_reqs=none&ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=false",
        "rediss://host/1",
    ),
    ("rediss://host?ssl_certfile=/c&ssl_keyfile=/k&ssl_password=hunter2", "rediss://host"),
    ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
    ("unix://me:hunter2@/run/redis.sock", "unix:///run/redis.sock"),
]

REFUSED = [
    ("redis://u:a@b/c@host", "percent-encoded"),
    ("redis://u:57#x@host:6379/0", "percent-encoded"),
    ("redis://u:57?x@host:6379/0", "percent-encoded"),
    ("redis://u:57/x@host:6379/0", "percent-encoded"),
    ("redis://u:5%7x@host", "percent-encoded"),
    ("redis://u:5%", "percent-encoded"),
    ("redis://57#x", "percent-encoded"),
    ("http://57x", "must be a URL such as"),
    ("redis://host:57x", "must be a URL such as"),
    ("redis://host:65536", "no such port"),
    ("redis://host:0", "no such port"),
    ("redis://u:p@host/57x", "the database in the URL, after the host, must be a whole number"),
    ("redis://host/zero", "the database in the URL, after the host, must be a whole number"),
    ("redis://host/0?db=57", "the database is given twice"),
    ("redis://host?db=57x", "the parameter db in the URL must be a whole number"),
    ("redis://host?db=5&db=7", "the parameter db is in the URL more than once"),
    ("redis://host?db=", "the parameter db in the URL must be"),
    ("rediss://host?ssl_cert_req=57x", "a parameter in the URL is not known; did you mean ssl_cert_reqs?"),
    (
        "rediss://host?ssl_cert_reqs=57x",
        "the parameter ssl_cert_reqs in the URL must be none, optional or required",
    ),
    ("rediss://host?decode_responses=true", "is not known; allowed are client_name, db, "),
    ("redis://host?password=5&dbx57=1", "is not known; allowed are client_name, db, "),
    ("redis://host?ssl_cert_reqs=none", "is for rediss:// only"),
    (
        "redis://host?socket_timeout=57x",
        "the parameter socket_timeout in the URL must be a number of seconds",
    ),
]


@pytest.mark.parametrize(("url", "shown"), TAKEN)
def test_a_url_is_shown_without_user_password_and_parameters(url: str, shown: str) -> None:
    """And the client takes every one that is taken here, with each parameter as it is meant."""
    check_redis_url(url)
    assert shown_redis_url(url) == shown
    connection: Any = ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
    assert isinstance(connection, SSLConnection) == url.startswith("rediss")


@pytest.mark.parametrize(("url", "reason"), REFUSED)
def test_a_url_that_is_refused_is_not_shown(url: str, reason: str) -> None:
    """A password ends at a character that means something in URLs; its rest would be shown as something else."""
    with pytest.raises(RedisUrlError) as caught:
        check_redis_url(url)
    assert reason in str(caught.value)
    for part in ("57", "a@b", "x@", "/c@"):
        assert part not in str(caught.value)
        assert part not in shown_redis_url(url)
