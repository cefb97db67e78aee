"""Redis that does not do what it is asked: asleep, read-only, full, without its scripts, or hard to reach."""

from __future__ import annotations

import hashlib
from importlib import resources

import pytest
import redis

from ebbtide.testing.services.ports import lasting_port
from streams.demo.embedded import HOST
from tests.faults.case import FaultCase
from tests.faults.conftest import MakeCase
from tests.faults.test_redis import case_by_proxy
from tests.integration.harness import paused
from tests.services import JournaledRedis, KafkaService, OwnRedis

pytestmark = [pytest.mark.real_kafka, pytest.mark.timeout(900)]

LATE_S = 3.0
"""By how much a slow link delays a request, and then its answer: together more than clients wait."""
OTHERS_CLIENTS = "normal"


@pytest.mark.fault_case("Redis", "SIGSTOP for longer than its clients wait, SIGCONT")
def test_a_redis_that_sleeps_costs_nothing(case: FaultCase, own_redis: OwnRedis) -> None:
    """When it wakes, it does first what it was asked meanwhile, by connections that nobody listens to any more."""
    case.begin(feeds=True)
    with case.worker() as worker:
        for _ in range(case.choose(full=3, short=1)):
            case.until_batches(8, worker)
            case.assert_mid_stream()
            with paused(own_redis.pid):
                case.until_all_fail(worker, error="TimeoutError")
            case.injected()
        case.finish(worker)
    case.check()


@pytest.mark.fault_case("Redis", "read-only for a while")
def test_a_redis_that_is_somebodys_replica_for_a_while_costs_nothing(
    case: FaultCase, own_redis: OwnRedis
) -> None:
    """Its master never answers, so that it keeps what it has."""
    case.begin(feeds=True)
    with case.worker() as worker, own_redis.client() as client:
        for _ in range(case.choose(full=4, short=2)):
            case.until_batches(8, worker)
            case.assert_mid_stream()
            client.replicaof(HOST, str(lasting_port()))
            case.until_all_fail(worker, error="ReadOnlyError", more=2)
            client.replicaof("NO", "ONE")
            case.injected()
        case.finish(worker)
    case.check()


@pytest.mark.fault_case("Redis", "writes refused for lack of disk")
def test_a_redis_whose_disk_is_full_for_a_while_costs_nothing(
    make_case: MakeCase, kafka: KafkaService, journaled_redis: JournaledRedis
) -> None:
    """It holds what it took before it noticed, and its journal gets that once there is room."""
    with make_case(kafka.bootstrap_servers, journaled_redis.url) as case:
        case.begin(feeds=True)
        with case.worker() as worker:
            for _ in range(case.choose(full=4, short=2)):
                case.until_batches(8, worker)
                case.assert_mid_stream()
                journaled_redis.fill_disk()
                case.until_all_fail(worker, error="No space left on device", more=2)
                journaled_redis.free_disk()
                case.injected()
            case.finish(worker)
        case.check()


@pytest.mark.fault_case("Redis", "no connections left for a while")
def test_a_redis_that_takes_no_more_clients_costs_nothing(case: FaultCase, own_redis: OwnRedis) -> None:
    """Those of the worker are ended, and new ones refused: the only one allowed is this test's."""
    case.begin(feeds=True)
    with case.worker() as worker, own_redis.client() as client:
        for _ in range(case.choose(full=4, short=2)):
            case.until_batches(8, worker)
            case.assert_mid_stream()
            client.config_set("maxclients", 1)
            assert client.client_kill_filter(_type=OTHERS_CLIENTS, skipme=True) > 0
            case.until_all_fail(worker, error="max number of clients reached", more=2)
            client.config_set("maxclients", 1_000)
            case.injected()
        case.finish(worker)
    case.check()


@pytest.mark.fault_case("Redis", "CLIENT KILL again and again")
def test_connections_that_redis_ends_cost_nothing(case: FaultCase, own_redis: OwnRedis) -> None:
    """In whatever the worker was about; each time it had some."""
    case.begin(feeds=True)
    with case.worker() as worker, own_redis.client() as client:
        for _ in range(case.choose(full=20, short=8)):
            case.until_batches(2, worker)
            case.assert_mid_stream()
            assert client.client_kill_filter(_type=OTHERS_CLIENTS, skipme=True) > 0
            case.injected()
        case.finish(worker)
    case.check()


def unknown_scripts(client: redis.Redis) -> int:
    """How often Redis was asked to run a script that it does not have."""
    errors = client.info("errorstats")
    assert isinstance(errors, dict)
    return int(errors.get("errorstat_NOSCRIPT", {"count": 0})["count"])


@pytest.mark.fault_case("Redis", "SCRIPT FLUSH again and again")
def test_scripts_that_redis_forgets_are_given_to_it_again(case: FaultCase, own_redis: OwnRedis) -> None:
    """As after each restart, but while a micro-batch is on its way."""
    script = resources.files("streams.state").joinpath("scripts", "persist.lua").read_bytes()
    called = hashlib.sha1(script).hexdigest()
    case.begin(feeds=True)
    with case.worker() as worker, own_redis.client() as client:
        for _ in range(case.choose(full=20, short=8)):
            case.until_batches(2, worker)
            case.assert_mid_stream()
            before = unknown_scripts(client)
            client.script_flush()
            case.until(lambda before=before: unknown_scripts(client) > before, "a script missed", worker)  # type: ignore[misc]
            case.injected()
            case.until(lambda: client.script_exists(called) == [True], "the script is there again", worker)
        case.finish(worker)
    case.check()


@pytest.mark.fault_case("Redis", "connections reset again and again")
def test_a_link_to_redis_that_breaks_all_the_time_costs_nothing(
    make_case: MakeCase, kafka: KafkaService, own_redis: OwnRedis
) -> None:
    """In whatever the worker was about; each time it had some."""
    with case_by_proxy(make_case, kafka, own_redis) as (case, proxy):
        case.begin(feeds=True)
        with case.worker() as worker:
            for _ in range(case.choose(full=20, short=8)):
                case.until_batches(2, worker)
                case.assert_mid_stream()
                assert proxy.reset() > 0
                case.injected()
            case.finish(worker)
        case.check()


@pytest.mark.fault_case("Redis", "answers later than its clients wait")
def test_a_link_so_slow_that_everybody_gives_up_costs_nothing(
    make_case: MakeCase, kafka: KafkaService, own_redis: OwnRedis
) -> None:
    """Redis does all that it is asked, and nobody hears of it."""
    with case_by_proxy(make_case, kafka, own_redis) as (case, proxy):
        case.begin(feeds=True)
        with case.worker() as worker:
            for _ in range(case.choose(full=3, short=1)):
                case.until_batches(8, worker)
                case.assert_mid_stream()
                proxy.slow_down(LATE_S)
                case.until_all_fail(worker, error="TimeoutError")
                proxy.slow_down(0)
                case.injected()
            case.finish(worker)
        case.check()
