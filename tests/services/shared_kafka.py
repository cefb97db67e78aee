"""One broker for all processes of a parallel test run.

A broker costs half a minute of processor time until its code is compiled, so the processes of pytest-xdist share one.
It belongs to the process that distributes the tests, since any other may end first. That one starts it when it is first
asked for.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from multiprocessing.connection import Client, Listener

from ebbtide.testing.services.kafka import KafkaService, start_kafka

Address = tuple[str, bytes]
"""Where a `SharedKafka` answers: the path of a Unix socket, and the key that it asks for."""


class SharedKafka:
    """In the process that distributes the tests: starts Kafka when another process asks for it first."""

    def __init__(self) -> None:
        self._key = os.urandom(16)
        self._listener = Listener(family="AF_UNIX", authkey=self._key)
        self._stack = ExitStack()
        self._answer: KafkaService | Exception | None = None
        threading.Thread(target=self._serve, name="shared Kafka", daemon=True).start()

    @property
    def address(self) -> Address:
        """What `shared_kafka` needs to reach this."""
        return str(self._listener.address), self._key

    def close(self) -> None:
        """End the broker, if one was started."""
        self._listener.close()
        self._stack.close()

    def _serve(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                return  # closed
            with connection:
                connection.send(self._kafka())

    def _kafka(self) -> KafkaService | Exception:
        if self._answer is None:
            try:
                self._answer = self._stack.enter_context(start_kafka())
            except Exception as error:
                self._answer = error
        return self._answer


def shared_kafka(address: Address) -> KafkaService:
    """The broker of the whole test run; raises what its start raised."""
    path, key = address
    with Client(path, family="AF_UNIX", authkey=key) as connection:
        answer: KafkaService | Exception = connection.recv()
    if isinstance(answer, Exception):
        raise answer
    return answer
