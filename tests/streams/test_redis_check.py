"""A Redis that answers, but takes not all that a worker writes, is told by its cause, and rights by their names."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from streams.operations.doctor import check_redis
from streams.settings import Settings
from streams.state.redis_check import rights
from tests.integration.harness import until
from tests.services import OwnRedis, RedisService, ReplicatedRedis, start_cluster_redis

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"
PASSWORD = "a-password-of-a-test"


def told(redis_url: str) -> list[str]:
    """The errors and warnings of a Redis, without its address."""
    findings = check_redis(Settings(redis_url=redis_url))
    return [finding.message.partition("): ")[2] for finding in findings if finding.status != "ok"]


@pytest.fixture
def client(own_redis: OwnRedis) -> Iterator[Redis]:
    with own_redis.client() as client:
        yield client


def account(client: Redis, own_redis: OwnRedis, rules: list[str]) -> str:
    """The URL of an account with these rights and no others."""
    command: Any = client.execute_command
    command("ACL SETUSER", "ebbtide", "reset", "on", f">{PASSWORD}", *rules)
    return own_redis.url.replace("redis://", f"redis://ebbtide:{PASSWORD}@")


def test_a_healthy_redis_is_left_as_it_was(each_redis: RedisService) -> None:
    """What was tried leaves no key behind."""
    each_redis.flush()
    findings = check_redis(Settings(redis_url=each_redis.url))
    assert [finding.status for finding in findings] == ["ok", "ok"]
    with each_redis.client() as client:
        assert client.keys() == []


def test_a_replica_is_an_error(replicated_redis: ReplicatedRedis) -> None:
    """The line names its primary."""
    with replicated_redis.replica_client() as replica:
        port = replica.connection_pool.connection_kwargs["port"]
    (line,) = told(f"redis://127.0.0.1:{port}/0")
    assert line.startswith("it is a replica of 127.0.0.1:")


def test_a_replica_that_may_not_be_asked_is_an_error_all_the_same(own_redis: OwnRedis, client: Redis) -> None:
    """It shows by what it refuses."""
    url = account(client, own_redis, ["~*", "+@all", "-info"])
    client.replicaof("127.0.0.1", "1")
    assert told(url) == ["it is a replica, and read-only; give the primary's address"]


async def test_a_redis_that_cannot_write_to_its_disk_is_an_error(own_redis: OwnRedis, client: Redis) -> None:
    """As one whose snapshot failed: it answers every question and takes no write."""
    client.config_set("save", "3600 1")
    client.set("something", "to save")
    shutil.rmtree(own_redis.folder)
    client.bgsave()
    await until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "a failed snapshot")
    (line,) = await asyncio.to_thread(told, own_redis.url)
    assert line.startswith("it takes no writes, since it cannot write to its disk: MISCONF")


def test_a_redis_whose_memory_is_full_is_an_error(own_redis: OwnRedis, client: Redis) -> None:
    """With noeviction it refuses what would take more."""
    client.config_set("maxmemory", "1mb")
    assert told(own_redis.url) == ["its memory is full, and it takes no writes; raise maxmemory"]


def test_a_node_of_a_cluster_is_an_error() -> None:
    """It would refuse whatever belongs to another node, also where it says nothing of itself."""
    with start_cluster_redis() as cluster, cluster.client() as client:
        line = "it is a node of a Redis Cluster, which is not supported; give a single Redis"
        assert told(cluster.url) == [line]
        assert told(account(client, cluster, ["~*", "+@all", "-info"])) == [line]


@pytest.mark.parametrize("right", rights(Settings()))
def test_a_right_that_is_missing_is_named(own_redis: OwnRedis, client: Redis, right: str) -> None:
    """Whichever it is: each alone makes an error."""
    given = [each for each in rights(Settings()) if each != right]
    assert told(account(client, own_redis, [*given, "+info"])) == [f"this account lacks the rights {right}"]


def test_an_account_that_may_not_ask_for_info_is_only_warned_of(own_redis: OwnRedis, client: Redis) -> None:
    """A worker does not need it; what it would tell is not checked."""
    url = account(client, own_redis, rights(Settings()))
    (finding,) = [finding for finding in check_redis(Settings(redis_url=url)) if finding.status != "ok"]
    assert finding.status == "warning"
    assert "+info" in finding.message


def test_the_documents_list_these_rights() -> None:
    """In docs/operating.md, to be copied."""
    assert f"`{' '.join(rights(Settings()))}`" in OPERATING.read_text("utf-8")
