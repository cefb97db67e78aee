"""What Kafka's clients say again and again is logged once a minute, with how often it was said."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import product

import pytest

from streams.kafka.client_logs import EVERY_S, MOST_CAUSES, ThrottlingHandler, throttle_client_logs


class SetClock:
    """Tells the seconds that a test has set."""

    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def client(clock: SetClock, lines: Lines) -> logging.Logger:
    """The logger of a library that is throttled."""
    target, library = logging.Logger("target", logging.INFO), logging.Logger("a_client")
    target.addHandler(lines)
    library.addHandler(ThrottlingHandler(target, clock))
    return library


def test_one_line_a_minute_and_cause(client: logging.Logger, clock: SetClock, lines: Lines) -> None:
    """Numbers make no other cause; another message, or another level, does. Nothing is left out unsaid."""
    for attempt in range(16_000):
        client.error("Unable to connect to node with id %s: attempt %s", attempt % 3, attempt)
    client.warning("Heartbeat failed")
    assert lines.messages == ["Unable to connect to node with id 0: attempt 0", "Heartbeat failed"]
    clock.now_s += EVERY_S
    client.error("Unable to connect to node with id %s: attempt %s", 1, 16_000)
    client.error("Unable to connect to node with id %s: attempt %s", 2, 16_001)
    assert lines.messages[2:] == [
        "Unable to connect to node with id 1: attempt 16000 (and 15,999 more like this before)"
    ]


def test_causes_are_not_remembered_without_end(client: logging.Logger, lines: Lines) -> None:
    """The oldest is forgotten: its next line is logged, and the memory does not grow."""
    words = ["".join(letters) for letters in product("abcdefghij", repeat=4)][: MOST_CAUSES + 1]
    for word in [*words, words[0], words[-1]]:
        client.error("about %s", word)
    assert len(lines.messages) == MOST_CAUSES + 2


@pytest.fixture
def libraries() -> Iterator[None]:
    """The loggers of Kafka's clients are afterwards as they were."""
    loggers = [logging.getLogger(name) for name in ("aiokafka", "kafka")]
    before = [(logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:], logger.propagate = handlers, propagate


@pytest.mark.usefixtures("libraries")
def test_a_worker_hears_its_clients_once_a_minute(lines: Lines) -> None:
    """Every module of aiokafka is throttled; kafka-python, whose errors are raised, is not heard at all."""
    throttle_client_logs()
    root = logging.getLogger()
    root.addHandler(lines)
    try:
        for node in range(100):
            logging.getLogger("aiokafka.client").error("Unable connect to node with id %s", node)
            logging.getLogger("aiokafka.conn").info("connected")
            logging.getLogger("kafka.conn").error("closed")
    finally:
        root.removeHandler(lines)
    assert lines.messages == ["Unable connect to node with id 0"]
