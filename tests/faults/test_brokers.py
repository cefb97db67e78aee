"""Three brokers, two of which must acknowledge: they die and come back, or a network keeps workers from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults.case import FaultCase
from tests.faults.conftest import MakeCase
from tests.integration.harness import WorkerProcess, worker_process
from tests.services import KafkaCluster, OwnRedis
from tests.services.kafka_cluster import NODES, KafkaNode
from tests.services.ports import lasting_port

pytestmark = [pytest.mark.timeout(900)]


@pytest.fixture
def case(make_case: MakeCase, kafka_cluster: KafkaCluster, own_redis: OwnRedis) -> Iterator[FaultCase]:
    """A case on three brokers."""
    with make_case(kafka_cluster.bootstrap_servers, own_redis.url, replication_factor=3) as made:
        yield made


def bounce(
    case: FaultCase, cluster: KafkaCluster, end: Callable[[KafkaNode], None], choose: Callable[[int], int]
) -> None:
    """End one broker after the other, and start each again once every partition has gone on without it."""
    case.begin()
    with case.worker() as worker:
        case.until_steps(1, worker)
        for turn in range(case.choose(full=len(NODES), short=1)):
            case.assert_mid_stream()
            number = choose(turn)
            end(cluster.nodes[number])
            case.injected()
            until_all_go_on(case, worker)
            case.assert_mid_stream()
            cluster.restart(number)
        case.finish(worker)
    case.check()


def until_all_go_on(case: FaultCase, *workers: WorkerProcess) -> None:
    """Wait until every partition has published a step that was begun after this moment, or has no more to publish."""
    before = case.progress.partition_steps()

    def have_gone_on() -> bool:
        now = case.progress.partition_steps()
        return all(
            now[partition] >= step + 2 or case.is_through(partition) for partition, step in before.items()
        )

    case.until(have_gone_on, "two more steps of every partition", *workers)


@pytest.mark.fault_case("brokers", "SIGKILL of each in turn")
def test_brokers_killed_one_after_the_other_cost_nothing(
    case: FaultCase, kafka_cluster: KafkaCluster
) -> None:
    bounce(case, kafka_cluster, KafkaNode.kill, lambda turn: NODES[turn])


@pytest.mark.fault_case("brokers", "SIGTERM of each in turn")
def test_brokers_restarted_one_after_the_other_cost_nothing(
    case: FaultCase, kafka_cluster: KafkaCluster
) -> None:
    bounce(case, kafka_cluster, KafkaNode.terminate, lambda turn: NODES[turn])


@pytest.mark.fault_case("brokers", "SIGKILL of whichever is the controller", short=True)
def test_controllers_killed_one_after_the_other_cost_nothing(
    case: FaultCase, kafka_cluster: KafkaCluster
) -> None:
    bounce(case, kafka_cluster, KafkaNode.kill, lambda turn: kafka_cluster.controller())


@pytest.fixture
def proxied_case(
    make_case: MakeCase, kafka_cluster: KafkaCluster, own_redis: OwnRedis
) -> Iterator[FaultCase]:
    """A case on three brokers that its workers reach through proxies."""
    with make_case(
        kafka_cluster.proxied_servers,
        own_redis.url,
        reader_servers=kafka_cluster.bootstrap_servers,
        replication_factor=3,
    ) as made:
        try:
            yield made
        finally:
            for proxy in kafka_cluster.proxies.values():
                proxy.release()


@pytest.mark.fault_case("network", "no way to the group's coordinator", short=True)
def test_a_worker_without_its_coordinator_comes_back(
    proxied_case: FaultCase, kafka_cluster: KafkaCluster
) -> None:
    """It lasts until the group has put the worker out; what was sent meanwhile arrives late."""
    case = proxied_case
    case.begin()
    with case.worker() as worker:
        for _ in range(case.choose(full=3, short=1)):
            case.until_steps(4, worker)
            case.until(lambda: len(case.progress.members()) == 1, "a member", worker)
            case.assert_mid_stream()
            proxy = kafka_cluster.proxies[kafka_cluster.group_coordinator(case.settings.group_id)]
            proxy.hold()
            case.until(lambda: not case.progress.members(), "an empty group", worker)
            proxy.release()
            case.injected()
            until_all_go_on(case, worker)
        case.finish(worker)
    case.check()


@pytest.mark.fault_case("network", "no way to any broker while another worker takes over")
def test_a_worker_that_was_cut_off_is_fenced_by_the_one_that_took_over(
    proxied_case: FaultCase, kafka_cluster: KafkaCluster
) -> None:
    """The other worker has another way; what the first had sent arrives when it no longer owns anything."""
    case = proxied_case
    case.begin()
    with case.worker() as cut_off:
        case.until_steps(8, cut_off)
        for proxy in kafka_cluster.proxies.values():
            proxy.hold()
        beside = case.own_settings.model_copy(update={"web_port": lasting_port()})
        with worker_process(beside, case.folder / "other.log") as other:
            until_all_go_on(case, cut_off, other)
            case.assert_mid_stream()
            for proxy in kafka_cluster.proxies.values():
                proxy.release()
            case.injected()
            case.until(lambda: len(case.progress.members()) == 2, "two members", cut_off, other)
            assert "Fenced" in cut_off.log_text()
            case.finish(cut_off, other)
    case.check()
