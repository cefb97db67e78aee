"""The services that fault tests break do fail as they are told to, and come back."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator
from typing import NoReturn

import pytest
import redis
from aiokafka import AIOKafkaConsumer
from kafka import KafkaAdminClient
from redis.backoff import NoBackoff
from redis.retry import Retry

from streams.demo.embedded import HOST
from tests.integration.harness import Record, make_settings, make_topics, produce, read_topic
from tests.services import JournaledRedis, KafkaCluster, OwnRedis, ReplicatedRedis, TcpProxy, start_proxy
from tests.services.kafka_cluster import NODES


@pytest.fixture
def proxy(own_redis: OwnRedis) -> Iterator[TcpProxy]:
    with start_proxy(own_redis.port) as started:
        yield started


def through(proxy: TcpProxy, timeout_s: float = 20.0) -> redis.Redis:
    """A client that tries everything once."""
    return redis.Redis(host=HOST, port=proxy.port, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0))


def test_what_a_proxy_holds_arrives_late(proxy: TcpProxy, own_redis: OwnRedis) -> None:
    """A request that its client has given up is done once the proxy lets it through."""
    with own_redis.client() as direct, through(proxy, timeout_s=2.0) as client:
        client.set("early", 1)
        proxy.hold()
        with pytest.raises(redis.TimeoutError):
            client.set("late", 1)
        assert direct.get("late") is None
        proxy.release()
        with through(proxy) as another:
            assert another.ping()
            while direct.get("late") is None:
                another.ping()


def test_what_is_held_of_present_connections_comes_after_what_new_ones_send(proxy: TcpProxy) -> None:
    with through(proxy, timeout_s=2.0) as client, through(proxy) as another:
        client.set("key", "before")
        proxy.hold(only_present=True)
        with pytest.raises(redis.TimeoutError):
            client.set("key", "late")
        another.set("key", "early")
        proxy.release()
        while another.get("key") != b"late":
            pass


def test_a_proxy_that_resets_takes_new_connections(proxy: TcpProxy) -> None:
    with socket.create_connection((HOST, proxy.port)) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(7) == b"+PONG\r\n"
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with through(proxy) as client:
        assert client.ping()


def test_a_withheld_answer_is_that_of_a_request_that_was_done(proxy: TcpProxy, own_redis: OwnRedis) -> None:
    with own_redis.client() as direct, through(proxy) as client:
        assert client.incr("count") == 1
        proxy.withhold_answers(lambda chunk: b"INCR" in chunk)
        with pytest.raises(redis.ConnectionError):
            client.incr("count")
        assert client.get("count") == direct.get("count") == b"2"
        assert proxy.answers_withheld == 1
        proxy.withhold_answers(None)
        assert client.incr("count") == 3


def test_what_a_slow_proxy_lets_through_is_done_and_answered_late(
    proxy: TcpProxy, own_redis: OwnRedis
) -> None:
    with own_redis.client() as direct, through(proxy, timeout_s=0.5) as client:
        assert client.ping()
        proxy.slow_down(0.3)
        with pytest.raises(redis.TimeoutError):
            client.set("key", "value")
        while direct.get("key") is None:
            pass
        proxy.slow_down(0)
        assert client.get("key") == b"value"


def test_a_proxy_passes_what_is_larger_than_its_buffers(proxy: TcpProxy) -> None:
    value = bytes(range(256)) * 65_536
    with through(proxy) as client:
        client.set("large", value)
        assert client.get("large") == value


def test_a_redis_that_lost_power_lacks_the_end_of_its_journal(journaled_redis: JournaledRedis) -> None:
    """What was in the journal before is there, what came after is not, and a transaction cut in two is gone whole."""
    with journaled_redis.client() as client:
        client.set("early", 1)
        kept = journaled_redis.journal_bytes()
        client.pipeline().set("half", 1).set("other half", 1).execute()
        last = journaled_redis.journal_bytes()
        client.set("late", 1)
    assert kept < last < journaled_redis.journal_bytes()
    journaled_redis.lose_power(last - 10)
    journaled_redis.start()
    with journaled_redis.client() as client:
        assert client.keys() == [b"early"]


def count_for_ever(client: redis.Redis) -> NoReturn:
    for number in itertools.count():
        client.set("unnoticed", number)
    raise AssertionError


def test_a_redis_whose_disk_is_full_takes_nothing_until_there_is_room(
    journaled_redis: JournaledRedis,
) -> None:
    """What it took before it noticed is in the journal afterwards."""
    with journaled_redis.client() as client:
        client.set("early", 1)
        journaled_redis.fill_disk()
        with pytest.raises(redis.ResponseError, match="No space left on device"):
            count_for_ever(client)
        unnoticed = client.get("unnoticed")
        journaled_redis.free_disk()
        client.set("late", 1)
        journaled_redis.journal_bytes()  # all that was answered is in it now
        journaled_redis.kill()
        journaled_redis.start()
        assert sorted(client.keys()) == [b"early", b"late", b"unnoticed"]
        assert client.get("unnoticed") == unnoticed


def test_a_failover_loses_what_the_replica_had_not_heard(replicated_redis: ReplicatedRedis) -> None:
    with redis.Redis.from_url(replicated_redis.url) as client:
        client.set("early", 1)
        replicated_redis.wait_for_replica()
        replicated_redis.hold_up_replication()
        client.set("late", 1)
        replicated_redis.fail_over()
        assert client.keys() == [b"early"]
        client.set("after", 1)
        replicated_redis.add_replica()
        replicated_redis.fail_over()
        assert sorted(client.keys()) == [b"after", b"early"]


@pytest.mark.deep
@pytest.mark.timeout(600)
async def test_a_cluster_of_which_one_broker_is_ended_goes_on(
    kafka_cluster: KafkaCluster, own_redis: OwnRedis, unique_prefix: str
) -> None:
    """Records are taken without the controller, which is another then, and it has them all once it is back."""
    settings = make_settings(kafka_cluster.bootstrap_servers, own_redis.url, unique_prefix)
    await make_topics(settings, partitions=3, replication_factor=3)
    ended = kafka_cluster.controller()
    kafka_cluster.nodes[ended].kill()
    sent = [Record("purchases", None, str(number).encode(), number % 3) for number in range(300)]
    await produce(settings, sent)
    kafka_cluster.restart(ended)
    assert kafka_cluster.controller() in NODES
    found = await read_topic(settings, "purchases")
    assert sorted(int(record.value) for record in found) == list(range(300))


async def test_the_coordinator_of_a_group_is_the_one_that_its_members_talk_to(
    kafka_cluster: KafkaCluster, own_redis: OwnRedis, unique_prefix: str
) -> None:
    settings = make_settings(kafka_cluster.bootstrap_servers, own_redis.url, unique_prefix)
    await make_topics(settings, replication_factor=3)
    async with AIOKafkaConsumer(
        settings.topic("purchases"),
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=settings.group_id,
    ) as member:
        told = await asyncio.to_thread(kafka_cluster.group_coordinator, settings.group_id)
        assert told == member._coordinator.coordinator_id


async def test_clients_of_the_proxied_addresses_reach_the_brokers_through_proxies_only(
    kafka_cluster: KafkaCluster,
) -> None:
    admin = KafkaAdminClient(bootstrap_servers=kafka_cluster.proxied_servers.split(","))
    told = {broker["port"] for broker in admin.describe_cluster()["brokers"]}
    admin.close()
    assert told == {proxy.port for proxy in kafka_cluster.proxies.values()}
