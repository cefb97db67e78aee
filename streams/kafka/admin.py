"""Questions about a cluster and its topics, rather than about records: kafka-python's admin client."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from streams.errors import EbbtideError, one_line
from streams.kafka.access import require_access
from streams.kafka.connection import kafka_python_settings
from streams.settings import Settings

TIMEOUT_S: Final = 10.0
"""For reaching the broker, and for each request to it."""


@contextmanager
def admin_client(settings: Settings) -> Iterator[Any]:
    """A connected `KafkaAdminClient`; every call gives up after `TIMEOUT_S` seconds.

    Raises:
        EbbtideError: no broker answers or lets us in, or a call inside the block failed.
    """
    where = f"{settings.kafka_bootstrap_servers} (setting EBBTIDE_KAFKA_BOOTSTRAP_SERVERS)"
    timeout_ms = int(TIMEOUT_S * 1000)
    require_access(settings)
    try:
        client = KafkaAdminClient(
            **kafka_python_settings(settings),
            client_id="ebbtide-admin",
            request_timeout_ms=timeout_ms,
            bootstrap_timeout_ms=timeout_ms,
        )
    except (KafkaError, OSError, ValueError) as error:
        raise EbbtideError(f"no Kafka broker answers within {TIMEOUT_S:g} s at {where}") from error
    try:
        yield client
    except (KafkaError, OSError) as error:
        if lost := unresolved_listeners(client):
            raise EbbtideError(lost_listeners(where, lost)) from error
        raise EbbtideError(f"Kafka at {where}: {one_line(error)}") from error
    finally:
        client.close()


def unresolved_listeners(client: Any) -> list[str]:
    """The addresses to which brokers send their clients, as far as this machine cannot resolve them."""
    lost = []
    for broker in client._manager.cluster.brokers():
        try:
            socket.getaddrinfo(broker.host, broker.port, type=socket.SOCK_STREAM)
        except OSError:
            lost.append(f"{broker.host}:{broker.port}")
    return lost


def lost_listeners(where: str, lost: Sequence[str]) -> str:
    """One line on listeners that cannot be resolved."""
    return (
        f"Kafka answers at {where}, but sends its clients on to {', '.join(lost)}, which this machine cannot resolve: "
        "set the brokers' advertised.listeners, or this machine's name resolution"
    )
