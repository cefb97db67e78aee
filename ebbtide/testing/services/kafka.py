"""The Kafka that tests run on: given, in a container, from jars, or embedded."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ebbtide.testing.services import docker, maven
from ebbtide.testing.services.ports import lasting_port
from streams.demo.embedded import (
    HOST,
    EmbeddedBroker,
    EmbeddedServiceError,
    OwnedProcess,
    answers_kafka,
    wait_until_ready,
)

ADDRESS_VARIABLE = "EBBTIDE_TEST_KAFKA"
_START_TIMEOUT_S = 90.0

# One node that is broker and controller: what production replicates three times exists once here,
# transactions and offsets have few partitions, and a group forms at once.
SINGLE_NODE = {
    "node.id": "1",
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "num.partitions": "1",
    "default.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A topic is made by who needs it, never by a client that asks for a wrong name.
    "auto.create.topics.enable": "false",
    # Tests send records dated years back: nothing is deleted for its age.
    "log.retention.ms": "-1",
    "log.retention.bytes": "-1",
    "log.cleaner.dedupe.buffer.size": "16777216",
}


@dataclass(frozen=True, slots=True)
class KafkaService:
    """A running broker.

    ``is_real`` says whether it is Apache Kafka; ``transactions`` whether it has them; ``origin`` where it
    came from, and for the embedded one why there is no other; ``pid`` is its process, where we started one;
    ``lost_servers`` only one of a test's own has.
    """

    bootstrap_servers: str
    is_real: bool
    transactions: bool
    origin: str
    pid: int | None = None
    lost_servers: str | None = None


@contextmanager
def start_kafka() -> Iterator[KafkaService]:
    """The best Kafka this machine has, for the length of the block.

    Raises:
        EmbeddedServiceError: it did not start; the message ends with the broker's log.
    """
    if address := os.environ.get(ADDRESS_VARIABLE):
        yield KafkaService(address, True, True, f"{ADDRESS_VARIABLE}={address}")
        return
    if docker.docker_answers():
        with _in_docker() as service:
            yield service
        return
    try:
        jars = maven.jars()
    except maven.NoKafkaHereError as error:
        with EmbeddedBroker() as broker:
            yield KafkaService(
                broker.bootstrap_servers,
                False,
                False,
                f"embedded broker, because: {error}",
                broker.process.pid,
            )
        return
    with _from_jars(jars) as service:
        yield service


NOWHERE = "no-such-host.invalid"
"""A name that no machine has (RFC 2606)."""
# Everyone may do everything with what nobody has been given a right to.
_AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


@contextmanager
def start_own_kafka(more: Mapping[str, str] | None = None) -> Iterator[KafkaService]:
    """A broker from jars that nobody else uses, for the length of the block, with its `pid` and an authorizer.

    `more` are settings of its own. At its `lost_servers` it answers too, but tells its clients to go on to a host that
    is not there.

    Raises:
        NoKafkaHereError: there are no jars, or nothing to run them.
    """
    lost_port = lasting_port()
    lost = {
        "listeners": f",LOST://{HOST}:{lost_port}",
        "advertised.listeners": f",LOST://{NOWHERE}:{lost_port}",
        "listener.security.protocol.map": ",LOST:PLAINTEXT",
    }
    with _from_jars(maven.jars(), {**_AUTHORIZER, **(more or {})}, lost) as service:
        yield dataclasses.replace(service, lost_servers=f"{HOST}:{lost_port}")


@contextmanager
def _from_jars(
    jars: Path, more: Mapping[str, str] | None = None, longer: Mapping[str, str] | None = None
) -> Iterator[KafkaService]:
    """`more` settings are added; those of `longer` go on where they end without."""
    folder = Path(tempfile.mkdtemp(prefix="ebbtide-kafka-"))
    process: OwnedProcess | None = None
    try:
        port, controller_port = lasting_port(), lasting_port()
        properties = folder / "server.properties"
        properties.write_text(
            _properties(folder, port, controller_port, more or {}, longer or {}), encoding="utf-8"
        )
        format_storage(jars, properties, str(uuid.uuid4()))
        process = OwnedProcess(
            maven.java_command(jars, "kafka.Kafka", str(properties)),
            log_path=folder / "kafka.log",
            cwd=folder,
            scratch=folder,
            stop_timeout_s=20.0,
        )
        wait_until_ready(process, "Apache Kafka", lambda: answers_kafka(port), _START_TIMEOUT_S)
        origin = f"Apache Kafka {maven.KAFKA_VERSION} from jars"
        yield KafkaService(f"{HOST}:{port}", True, True, origin, process.pid)
    finally:
        if process is not None:
            process.kill()  # nothing on its disk is wanted any more
        shutil.rmtree(folder, ignore_errors=True)


def _properties(
    folder: Path, port: int, controller_port: int, more: Mapping[str, str], longer: Mapping[str, str]
) -> str:
    own = {
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "log.dirs": str(folder / "data"),
    }
    settings = {**SINGLE_NODE, **own, **more}
    return "".join(f"{name}={value}{longer.get(name, '')}\n" for name, value in settings.items())


def format_storage(jars: Path, properties: Path, cluster_id: str) -> None:
    """Prepare a node's folder as its properties say."""
    # Joined by "=", or an id that begins with a dash would be taken for an option.
    arguments = ("format", f"--cluster-id={cluster_id}", f"--config={properties}")
    command = maven.java_command(jars, "kafka.tools.StorageTool", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise EmbeddedServiceError(f"Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}")


@contextmanager
def _in_docker() -> Iterator[KafkaService]:
    container, port = docker.kafka_container(SINGLE_NODE)
    with container:

        def log() -> str:
            output, errors = container.get_logs()
            return (output + errors).decode(errors="replace")[-4000:]

        wait_for_container("Apache Kafka", lambda: answers_kafka(port), log, _START_TIMEOUT_S)
        yield KafkaService(f"{HOST}:{port}", True, True, f"container of {docker.KAFKA_IMAGE}")


def wait_for_container(
    name: str, answers: Callable[[], bool], log: Callable[[], str], timeout_s: float
) -> None:
    """Return once ``answers()`` is true; after ``timeout_s`` seconds raise, with the container's log."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with suppress(OSError):
            if answers():
                return
        time.sleep(0.2)
    raise EmbeddedServiceError(f"{name} in its container did not answer in {timeout_s:g} s:\n{log()}")
