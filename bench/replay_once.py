"""One replay of the files of a folder, and what it took: a program of its own, which has nothing else in memory.

    python -m bench.replay_once DIR PROCESSES [CORE]

PROCESSES may be 0, for as many as `ebbtide replay` takes. CORE is auto, for the one that it takes, compiled or python.

Prints seconds and seconds of CPU. The processes that share the work import what this does, so it imports little.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Final

from enrichment.kernel import Wanted
from enrichment.model import load_model
from streams.garbage import expecting_long_lives
from streams.replay.files import run_replay

WANTED: Final[dict[str, Wanted]] = {"auto": "auto", "compiled": "compiled", "python": "python"}


def main() -> None:
    """Replay as the command line says."""
    folder, processes = Path(sys.argv[1]), int(sys.argv[2]) or None
    core: Wanted = WANTED[(sys.argv[3:] or ["auto"])[0]]
    purchases, engagements, consents = (
        [folder / f"{topic}.jsonl"] for topic in ("purchases", "engagements", "consents")
    )
    model = load_model(None)
    began = time.perf_counter(), _used_s()
    with expecting_long_lives():
        files = purchases, engagements, consents
        run_replay(*files, folder / "out", model, None, processes=processes, core=core)
    print(json.dumps([time.perf_counter() - began[0], _used_s() - began[1]]))


def _used_s() -> float:
    """Seconds of CPU of this process and of those that it has started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
