"""What the clients of Kafka log: a line per minute and cause, since each of them tries again many times a second."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Final

EVERY_S: Final = 60.0
MOST_CAUSES: Final = 1_000
"""Causes that are remembered; beyond, the oldest is forgotten, and would be logged again."""
_VARYING: Final = re.compile(r"0x[0-9a-f]+|\d+")


class ThrottlingHandler(logging.Handler):
    """Passes records on to another logger, of each cause one within `EVERY_S`; the next one says how many there were.

    A cause is a logger, a level and a message without its numbers: nodes, ports, times and attempts.
    """

    def __init__(self, target: logging.Logger, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._target = target
        self._now_s = now_s
        self._passed_at_s: dict[tuple[str, int, str], float] = {}
        self._left_out: dict[tuple[str, int, str], int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on, or count it."""
        message = record.getMessage()
        cause = record.name, record.levelno, _VARYING.sub("#", message)
        now_s = self._now_s()
        passed_at_s = self._passed_at_s.pop(cause, None)
        if passed_at_s is not None and now_s - passed_at_s < EVERY_S:
            self._passed_at_s[cause] = passed_at_s
            self._left_out[cause] = self._left_out.get(cause, 0) + 1
            return
        if len(self._passed_at_s) >= MOST_CAUSES:
            oldest = next(iter(self._passed_at_s))
            del self._passed_at_s[oldest]
            self._left_out.pop(oldest, None)
        self._passed_at_s[cause] = now_s
        if left_out := self._left_out.pop(cause, 0):
            record = logging.makeLogRecord(record.__dict__)
            record.msg, record.args = f"{message} (and {left_out:,} more like this before)", ()
        if self._target.isEnabledFor(record.levelno):
            self._target.handle(record)


def throttle_client_logs() -> None:
    """Let what Kafka's clients log go through one `ThrottlingHandler`, in this process."""
    handler = ThrottlingHandler(logging.getLogger())
    # kafka-python is used for single requests, whose errors are raised; closing its connections it logs as errors.
    for library, level in (("aiokafka", logging.WARNING), ("kafka", logging.CRITICAL)):
        logger = logging.getLogger(library)
        logger.setLevel(level)
        logger.handlers[:] = [handler]
        logger.propagate = False
