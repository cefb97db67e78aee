"""Containers for tests, through testcontainers, where a Docker daemon answers."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess

from testcontainers.core.container import DockerContainer

from streams.demo.embedded import free_port

KAFKA_IMAGE = "apache/kafka:4.1.1"
REDIS_IMAGE = "redis:7-alpine"
_ASK_TIMEOUT_S = 5


@functools.cache
def docker_answers() -> bool:
    """Whether a Docker daemon answers within 5 s; ``EBBTIDE_TEST_DOCKER=0`` says not to ask."""
    if os.environ.get("EBBTIDE_TEST_DOCKER") == "0" or shutil.which("docker") is None:
        return False
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        answer = subprocess.run(
            command, capture_output=True, timeout=_ASK_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and bool(answer.stdout.strip())


def kafka_container(settings: dict[str, str]) -> tuple[DockerContainer, int]:
    """A container of Apache Kafka that is not started yet, and the host's port it will listen on.

    The port inside equals the one outside, because the broker tells its clients where to find it.
    """
    port = free_port()
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(port, port)
    listeners = {
        "listeners": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.quorum.voters": "1@localhost:9093",
    }
    for name, value in {**settings, **listeners}.items():
        container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    return container, port


def redis_container(arguments: list[str]) -> tuple[DockerContainer, int]:
    """A container of Redis that is not started yet, and the host's port it will listen on."""
    port = free_port()
    container = DockerContainer(REDIS_IMAGE).with_bind_ports(6379, port)
    return container.with_command(["redis-server", *arguments]), port
