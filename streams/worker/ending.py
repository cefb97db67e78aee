"""The end of a worker's process: after SIGTERM or SIGINT it comes within `GRACE_S`, whatever has failed."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from types import FrameType
from typing import Final

import faust

log = logging.getLogger(__name__)

GRACE_S: Final = 25.0
"""How long an orderly end may take. Kubernetes kills after 30 s by default, and then nothing is logged."""
ENDED_BY_FORCE: Final = 1


class EndingWorker(faust.Worker):
    """Faust's worker, whose process ends within `GRACE_S` of the first signal to stop.

    An orderly end needs an event loop that turns and clients that answer. A handler of Python's own is called also
    where the loop does not turn, and a thread of its own ends the process also where it waits for other threads.
    """

    _is_counting = False

    def install_signal_handlers(self) -> None:
        """Let the event loop hear of signals, as Faust does, and count from the first one on."""
        super().install_signal_handlers()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._count)

    def _count(self, number: int, frame: FrameType | None) -> None:
        if not self._is_counting:
            self._is_counting = True
            name = signal.Signals(number).name
            threading.Thread(target=_end_by_force, args=(name,), name="ebbtide-ending", daemon=True).start()


def _end_by_force(signal_name: str) -> None:
    """End this process at once, as a crash would, unless it has ended before: the next recovery mends what is left."""
    time.sleep(GRACE_S)
    log.critical("no end within %g s of %s: the process is ended as it is", GRACE_S, signal_name)
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(ENDED_BY_FORCE)
