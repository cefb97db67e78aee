"""A replay as documents in memory, by whichever core there is: for what looks at them, rather than writing them."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from enrichment.customer.validation import Horizons
from enrichment.kernel import DeclinedError, Wanted, core_of
from enrichment.model import Model
from schemas.documents import ChangeDocument, ProfileDocument, TriggerDocument
from schemas.topics import INPUT_TOPICS
from streams.replay.compiled import processors, replay_compiled
from streams.replay.log import ReplayLog
from streams.replay.parts import CHANGES, PROFILES, TRIGGERS, in_order
from streams.replay.replay import replay_ordered

_log = logging.getLogger(__name__)


class ReplayedDocuments(NamedTuple):
    """Changes and triggers by time, customer and sequence; profiles by customer; and what became of the records."""

    changes: list[ChangeDocument]
    triggers: list[TriggerDocument]
    profiles: list[ProfileDocument]
    outcomes: Counter[tuple[str, str]]


def replayed_documents(
    log: ReplayLog, model: Model, end_us: int, horizons: Horizons | None, core: Wanted = "auto"
) -> ReplayedDocuments:
    """Replay the records of an ordered log up to an end that is not before the latest of them.

    Records that are refused on the way are added to the log's dead letters. The compiled core replays where it is built
    and takes the model and the log; the documents are the same.

    Raises:
        KernelError: The compiled core is asked for and not built.
    """
    compiled = core_of(core).compiled
    if compiled is not None:
        try:
            return _compiled(compiled, log, model, end_us, horizons)
        except DeclinedError as error:
            _log.info("the Python core replays: %s", error)
    found = replay_ordered(log, model, end_us, horizons, None)
    return ReplayedDocuments(
        [document for _, document in in_order(found.results.changes)],
        [document for _, document in in_order(found.results.triggers)],
        found.profiles,
        found.results.outcomes,
    )


def _compiled(
    module: Any, log: ReplayLog, model: Model, end_us: int, horizons: Horizons | None
) -> ReplayedDocuments:
    """By files in a folder that is gone afterwards: their lines are already in order."""
    # By topic, since the lines of one are taken many at a time.
    lines = (record.line for topic in INPUT_TOPICS for record in log.records if record.topic == topic)
    with tempfile.TemporaryDirectory(prefix="ebbtide-replay-") as name:
        folder = Path(name)
        _, part, _ = replay_compiled(module, lines, folder, model, end_us, horizons, processors())

        def documents(file: str) -> Iterator[Any]:
            with (folder / file).open("rb") as written:
                yield from map(orjson.loads, written)

        return ReplayedDocuments(
            list(documents(CHANGES)), list(documents(TRIGGERS)), list(documents(PROFILES)), part.outcomes
        )
