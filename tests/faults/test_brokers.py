"""Three brokers, two of which must acknowledge: they die and come back, or a network keeps workers from them.

And a single one, that sleeps or forgets.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from ebbtide.testing.services.ports import lasting_port
from streams.demo.embedded import HOST
from tests.faults.case import FaultCase
from tests.faults.conftest import MakeCase
from tests.integration.harness import WorkerProcess, paused, worker_process
from tests.services import KafkaCluster, KafkaService, OwnRedis, start_own_kafka, start_proxy
from tests.services.kafka_cluster import NODES, KafkaNode

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
        case.until_batches(1, worker)
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
    """Wait until every partition has published a batch that was begun after this moment, or has no more to publish."""
    before = case.progress.partition_batches()

    def have_gone_on() -> bool:
        now = case.progress.partition_batches()
        return all(
            now[partition] >= batch + 2 or case.is_through(partition) for partition, batch in before.items()
        )

    case.until(have_gone_on, "two more micro-batches of every partition", *workers)


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


@contextmanager
def proxied(make_case: MakeCase, kafka_cluster: KafkaCluster, redis_port: int) -> Iterator[FaultCase]:
    """A case on three brokers that its workers reach through proxies."""
    with make_case(
        kafka_cluster.proxied_servers,
        f"redis://{HOST}:{redis_port}/0",
        reader_servers=kafka_cluster.bootstrap_servers,
        replication_factor=3,
    ) as made:
        try:
            yield made
        finally:
            for proxy in kafka_cluster.proxies.values():
                proxy.release()
                proxy.withhold_answers(None)


@pytest.fixture
def proxied_case(
    make_case: MakeCase, kafka_cluster: KafkaCluster, own_redis: OwnRedis
) -> Iterator[FaultCase]:
    """One with a direct way to Redis."""
    with proxied(make_case, kafka_cluster, own_redis.port) as made:
        yield made


@pytest.mark.fault_case("network", "no way to the group's coordinator", short=True)
def test_a_worker_without_its_coordinator_comes_back(
    proxied_case: FaultCase, kafka_cluster: KafkaCluster
) -> None:
    """It lasts until the group has put the worker out; what was sent meanwhile arrives late."""
    case = proxied_case
    case.begin()
    with case.worker() as worker:
        for _ in range(case.choose(full=3, short=1)):
            case.until_batches(4, worker)
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
        case.until_batches(8, cut_off)
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
            # By the fence, or, where it was cut off for longer than its client waits, by that.
            assert re.search(r"Fenced|Timeout", cut_off.log_text())
            case.finish(cut_off, other)
    case.check()


@pytest.mark.fault_case("network", "no way to Kafka and Redis at once")
def test_a_worker_without_any_link_comes_back(
    make_case: MakeCase, kafka_cluster: KafkaCluster, own_redis: OwnRedis
) -> None:
    """It lasts until the group has put the worker out; what was sent to either meanwhile arrives late."""
    with start_proxy(own_redis.port) as to_redis, proxied(make_case, kafka_cluster, to_redis.port) as case:
        links = [to_redis, *kafka_cluster.proxies.values()]
        case.begin()
        with case.worker() as worker:
            for _ in range(case.choose(full=3, short=1)):
                case.until_batches(4, worker)
                case.until(lambda: len(case.progress.members()) == 1, "a member", worker)
                case.assert_mid_stream()
                for link in links:
                    link.hold()
                case.until(lambda: not case.progress.members(), "an empty group", worker)
                for link in links:
                    link.release()
                case.injected()
                until_all_go_on(case, worker)
            case.finish(worker)
        case.check()


@pytest.mark.fault_case("network", "every connection to Kafka reset again and again")
def test_links_to_kafka_that_break_all_the_time_cost_nothing(
    proxied_case: FaultCase, kafka_cluster: KafkaCluster
) -> None:
    """In whatever the worker was about, those of its group and of all partitions alike."""
    case = proxied_case
    case.begin()
    with case.worker() as worker:
        for _ in range(case.choose(full=12, short=5)):
            case.until_batches(4, worker)
            case.assert_mid_stream()
            cut = sum(proxy.reset() for proxy in kafka_cluster.proxies.values())
            assert cut > case.workload.partitions, "not even a connection of each partition"
            case.injected()
        until_all_go_on(case, worker)
        case.finish(worker)
    case.check()


AGREE = "recovery: Redis and Kafka agree"
END_TXN = (26).to_bytes(2, "big")
"""What requests that end a transaction have after their length; the last byte of such a request says whether it
commits."""


def is_commit(chunk: bytes) -> bool:
    """Whether a client asks for a transaction to be committed, and for nothing else."""
    length = int.from_bytes(chunk[:4], "big")
    return chunk[4:6] == END_TXN and len(chunk) == 4 + length and chunk[-1] == 1


@pytest.mark.fault_case("network", "commits that nobody hears of")
def test_a_commit_without_an_answer_is_known_after_the_next_recovery(
    proxied_case: FaultCase, kafka_cluster: KafkaCluster
) -> None:
    """Kafka commits, and the connection is reset before the answer: nothing of the micro-batch is published again."""
    case = proxied_case
    proxies = list(kafka_cluster.proxies.values())
    withheld_before = sum(proxy.answers_withheld for proxy in proxies)
    case.begin()
    with case.worker() as worker:
        for times in range(1, case.choose(full=11, short=5)):
            case.until_batches(4, worker)
            case.assert_mid_stream()
            concerned = first_that(is_commit)
            for proxy in proxies:
                proxy.withhold_answers(concerned)
            case.until(
                lambda times=times: (
                    sum(proxy.answers_withheld for proxy in proxies)  # type: ignore[misc]
                    >= withheld_before + times
                ),
                "a withheld answer",
                worker,
            )
            case.injected()
            case.until(
                lambda times=times: case.logged(AGREE) >= times,  # type: ignore[misc]
                "a recovery that finds the commit",
                worker,
            )
        for proxy in proxies:
            proxy.withhold_answers(None)
        case.finish(worker)
    case.check()


def first_that(is_it: Callable[[bytes], bool]) -> Callable[[bytes], bool]:
    """True of the first chunk of which something is true, through whichever proxy it comes, and of no other."""
    waiting = [is_it]

    def is_first(chunk: bytes) -> bool:
        if not waiting or not is_it(chunk):
            return False
        waiting.clear()
        return True

    return is_first


LITTLE_BYTES = 64 * 1024
"""What a broker may still log before its disk is full."""


@pytest.mark.fault_case("brokers", "disk full on each in turn")
def test_brokers_that_can_write_no_more_cost_nothing(case: FaultCase, kafka_cluster: KafkaCluster) -> None:
    """No file may grow, so that the broker's log fails it, and it ends itself; it comes back with room on its disk."""
    case.begin()
    with case.worker() as worker:
        case.until_backlog(0.9, worker)
        for number in NODES[: case.choose(full=len(NODES), short=1)]:
            case.assert_mid_stream()
            node = kafka_cluster.nodes[number]
            node.limit_files(len(node.log_text()) + LITTLE_BYTES)
            case.until(lambda node=node: not node.is_running, "a broker that has ended itself", worker)  # type: ignore[misc]
            case.assert_mid_stream()
            assert "File too large" in node.log_text()
            node.kill()
            case.injected()
            until_all_go_on(case, worker)
            case.assert_mid_stream()
            kafka_cluster.restart(number)
        case.finish(worker)
    case.check()


@pytest.mark.fault_case("brokers", "SIGSTOP of the only one past the session timeout, SIGCONT")
def test_an_only_broker_that_sleeps_costs_nothing(
    make_case: MakeCase, own_kafka: KafkaService, own_redis: OwnRedis
) -> None:
    """Every partition gives up its batch meanwhile; when the broker wakes, it does first what it was asked then."""
    with make_case(own_kafka.bootstrap_servers, own_redis.url, publish_timeout_s=5.0) as case:
        case.begin()
        with case.worker() as worker:
            for _ in range(case.choose(full=3, short=1)):
                case.until_batches(8, worker)
                case.assert_mid_stream()
                with paused(own_kafka.pid):
                    wakes_at_s = time.monotonic() + 1.5 * case.settings.session_timeout_s
                    case.until_all_fail(worker)
                    case.until(lambda: time.monotonic() > wakes_at_s, "the session timeout", worker)  # noqa: B023
                case.injected()
                until_all_go_on(case, worker)
            case.finish(worker)
        case.check()


FORGOTTEN = "InvalidProducerIdMapping"
EXPIRED_AFTER_S = 10.0
FORGETFUL = {
    "transactional.id.expiration.ms": str(int(EXPIRED_AFTER_S * 1_000)),
    "transaction.remove.expired.transaction.cleanup.interval.ms": "500",
}


@pytest.mark.fault_case("brokers", "transactional ids forgotten while nothing comes")
def test_a_worker_that_was_idle_until_kafka_forgot_its_transactional_ids_goes_on(
    make_case: MakeCase, own_redis: OwnRedis
) -> None:
    """It is not told, and learns it from its next micro-batch, of which nothing is lost."""
    with (
        start_own_kafka(FORGETFUL) as forgetful,
        make_case(forgetful.bootstrap_servers, own_redis.url) as case,
    ):
        times = case.choose(full=3, short=2)
        cuts = [len(case.workload.records) * number // (times + 1) for number in range(1, times + 1)]
        case.begin(cuts[0])
        with case.worker() as worker:
            for start, end in pairwise((*cuts, None)):
                assert start is not None
                still_to_send = len(case.workload.records) - start
                case.until(lambda: case.progress.backlog() == still_to_send, "all that was sent", worker)  # noqa: B023
                case.until(lambda: worker.is_idle(case.workload.partitions), "idle", worker)
                time.sleep(1.5 * EXPIRED_AFTER_S)
                case.assert_mid_stream()
                failed = [case.failures(place) for place in range(case.workload.partitions)]
                with paused(worker.process.pid):  # else it would take what comes first before what is older
                    case.send(start, end)
                    case.injected()
                until_all_go_on(case, worker)
                assert all(case.failures(place) > times for place, times in enumerate(failed))
            assert case.logged(FORGOTTEN) > 0
            case.finish(worker)
        case.check()
