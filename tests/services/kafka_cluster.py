"""Three Kafka brokers from jars, replicated as in production, of which any may be ended and started again."""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from ebbtide.testing.services import maven
from ebbtide.testing.services.kafka import format_storage
from ebbtide.testing.services.ports import lasting_port
from ebbtide.testing.services.proxy import TcpProxy, start_proxy
from streams.demo.embedded import HOST, EmbeddedServiceError, OwnedProcess, answers_kafka, wait_until_ready

NODES = (1, 2, 3)
_HEAP_MIB = 384
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 60.0
_IN_SYNC_TIMEOUT_S = 120.0
_REQUEST_TIMEOUT_MS = 10_000

# Everything is there three times and acknowledged by two, so that any one broker may be gone.
_SETTINGS = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "DIRECT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "DIRECT",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
    # Tests send records dated years back: nothing is deleted for its age.
    "log.retention.ms": "-1",
    "log.retention.bytes": "-1",
    "log.cleaner.dedupe.buffer.size": "16777216",
}


class KafkaNode:
    """One broker, which is a controller too; its address and its disk stay the same when it is ended."""

    def __init__(self, jars: Path, number: int, folder: Path, direct_port: int, proxied_port: int) -> None:
        self.number = number
        self.direct_port = direct_port
        self.proxied_port = proxied_port
        self.folder = folder
        self._jars = jars
        self._process: OwnedProcess | None = None

    @property
    def properties(self) -> Path:
        """The file of its settings."""
        return self.folder / "server.properties"

    def launch(self) -> None:
        """Start the process, and wait for nothing."""
        command = maven.java_command(self._jars, "kafka.Kafka", str(self.properties), heap_mib=_HEAP_MIB)
        self._process = OwnedProcess(
            command,
            log_path=self.folder / "kafka.log",
            cwd=self.folder,
            scratch=self.folder,
            stop_timeout_s=_STOP_TIMEOUT_S,
        )

    def wait_until_ready(self) -> None:
        """Return once it answers."""
        assert self._process is not None
        wait_until_ready(
            self._process,
            f"Kafka broker {self.number}",
            lambda: answers_kafka(self.direct_port),
            _START_TIMEOUT_S,
        )

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.is_running()

    def limit_files(self, most_bytes: int) -> None:
        """Let no file of it grow beyond so many bytes, as on a disk that is full, until it is started again."""
        assert self._process is not None
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    def log_text(self) -> str:
        """What it has logged so far."""
        return (self.folder / "kafka.log").read_text("utf-8", errors="replace")

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def terminate(self) -> None:
        """Ask it to end (SIGTERM): it hands over what it leads first."""
        if self._process is not None:
            self._process.stop()
            self._process = None


class KafkaCluster:
    """Three brokers, each with two addresses: one of its own, and one through a proxy.

    A client that begins at `bootstrap_servers` talks to the brokers directly, one that begins at `proxied_servers`
    through `proxies` only, which are by broker number.
    """

    def __init__(self, nodes: dict[int, KafkaNode], proxies: dict[int, TcpProxy]) -> None:
        self.nodes = nodes
        self.proxies = proxies
        self.bootstrap_servers = ",".join(f"{HOST}:{node.direct_port}" for node in nodes.values())
        self.proxied_servers = ",".join(f"{HOST}:{proxy.port}" for proxy in proxies.values())

    def start(self) -> None:
        """Start all three, and wait until they have found each other."""
        for node in self.nodes.values():
            node.launch()
        for node in self.nodes.values():
            node.wait_until_ready()
        self.wait_until_in_sync()

    def restart(self, number: int) -> None:
        """Start a broker that was ended, and wait until every replica is in sync."""
        self.nodes[number].launch()
        self.nodes[number].wait_until_ready()
        self.wait_until_in_sync()

    def controller(self) -> int:
        """The number of the active controller."""
        with self._admin() as admin:
            quorum = admin.describe_metadata_quorum()
        return int(quorum["topics"][0]["partitions"][0]["leader_id"])

    def group_coordinator(self, group_id: str) -> int:
        """The number of the broker that coordinates a consumer group: the one that can describe it."""
        with self._admin() as admin:
            for number in self.nodes:
                described = admin.describe_groups([group_id], group_coordinator_id=number)
                if described[group_id]["error"] is None:
                    return number
        raise EmbeddedServiceError(f"no broker coordinates the group {group_id}")

    def wait_until_in_sync(self) -> None:
        """Return once all three brokers are registered and no partition lacks a replica.

        Raises:
            EmbeddedServiceError: that did not come about within two minutes.
        """
        deadline = time.monotonic() + _IN_SYNC_TIMEOUT_S
        lacking: object = "no answer"
        while time.monotonic() < deadline:
            try:
                lacking = self._lacking()
            except (KafkaError, OSError) as error:
                lacking = error
            if lacking == []:
                return
            time.sleep(0.25)
        raise EmbeddedServiceError(f"Kafka's brokers were not in sync in {_IN_SYNC_TIMEOUT_S:g} s: {lacking}")

    def _lacking(self) -> list[str]:
        with self._admin() as admin:
            brokers = admin.describe_cluster()["brokers"]
            topics = admin.describe_topics()
        if len(brokers) < len(NODES) or any(broker.get("is_fenced") for broker in brokers):
            return [f"brokers: {brokers}"]
        return [
            f"{topic['name']}/{partition['partition_index']}"
            for topic in topics
            for partition in topic["partitions"]
            if partition["leader_id"] < 0 or len(partition["isr_nodes"]) < len(partition["replica_nodes"])
        ]

    @contextmanager
    def _admin(self) -> Iterator[Any]:
        admin = KafkaAdminClient(
            bootstrap_servers=self.bootstrap_servers.split(","), request_timeout_ms=_REQUEST_TIMEOUT_MS
        )
        with closing(admin):
            yield admin


@contextmanager
def start_kafka_cluster() -> Iterator[KafkaCluster]:
    """Three brokers for the length of the block.

    Raises:
        NoKafkaHereError: this machine cannot run Kafka's jars; the message says why.
        EmbeddedServiceError: they did not start; the message ends with a broker's log.
    """
    jars = maven.jars()
    folder = Path(tempfile.mkdtemp(prefix="ebbtide-cluster-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        nodes, proxies = {}, {}
        for number in NODES:
            direct_port, proxied_port = lasting_port(), lasting_port()
            proxies[number] = stack.enter_context(start_proxy(proxied_port))
            nodes[number] = KafkaNode(jars, number, folder / str(number), direct_port, proxied_port)
        _prepare(jars, nodes, proxies)
        for node in nodes.values():
            stack.callback(node.kill)
        cluster = KafkaCluster(nodes, proxies)
        cluster.start()
        yield cluster


def _prepare(jars: Path, nodes: dict[int, KafkaNode], proxies: dict[int, TcpProxy]) -> None:
    """Write each node's settings, and format its storage."""
    controller_ports = {number: lasting_port() for number in nodes}
    voters = ",".join(f"{number}@{HOST}:{port}" for number, port in controller_ports.items())
    for number, node in nodes.items():
        node.folder.mkdir()
        direct = f"DIRECT://{HOST}:{node.direct_port}"
        proxied = f"PROXIED://{HOST}:{node.proxied_port}"
        own = {
            "node.id": str(number),
            "controller.quorum.voters": voters,
            "listeners": f"{direct},{proxied},CONTROLLER://{HOST}:{controller_ports[number]}",
            "advertised.listeners": f"{direct},PROXIED://{HOST}:{proxies[number].port}",
            "log.dirs": str(node.folder / "data"),
        }
        lines = (f"{name}={value}\n" for name, value in {**_SETTINGS, **own}.items())
        node.properties.write_text("".join(lines), encoding="utf-8")
    cluster_id = str(uuid.uuid4())
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(lambda node: format_storage(jars, node.properties, cluster_id), nodes.values()))
