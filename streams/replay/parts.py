"""What a replay makes of some customers: files whose lines are in order, and what the summary counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson

from schemas.documents import ChangeDocument, PublishedDocument, TriggerDocument
from schemas.profiles import DIMENSIONS
from schemas.timestamps import parse_timestamp
from streams.replay.fared import Fared, how_they_fared
from streams.replay.log import Refused
from streams.replay.replay import Replayed

CHANGES, TRIGGERS, PROFILES = FILES = (
    "segment-changes.jsonl",
    "reactivation-triggers.jsonl",
    "customer-profiles.jsonl",
)

Key = tuple[int, str, int] | tuple[str]
"""What the lines of a file are sorted by: time (µs), customer and sequence; or the customer alone."""

Published = TypeVar("Published", ChangeDocument, TriggerDocument)


@dataclass(slots=True)
class Part:
    """The folder with three FILES, and what is told of them."""

    folder: Path
    keys: dict[str, list[Key]] = field(default_factory=dict)
    """Per file, the key of each of its lines; none where the part is the whole."""
    lines: dict[str, int] = field(default_factory=dict)
    """Per file, how many lines it has."""
    dead_letters: list[Refused] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(topic, outcome) → records."""
    changes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(dimension, direction, trigger) → changes."""
    standings: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(dimension, standing) → customers."""
    triggers_dropped: int = 0
    fared: list[Fared] = field(default_factory=list)
    """What became of the customers of re-activations."""


def write_part(replayed: Replayed, folder: Path) -> Part:
    """Write what came of some customers into a folder."""
    results = replayed.results
    documents: Mapping[str, Sequence[tuple[Key, PublishedDocument]]] = {
        CHANGES: in_order(results.changes),
        TRIGGERS: in_order(results.triggers),
        PROFILES: [((profile["customer_id"],), profile) for profile in replayed.profiles],
    }
    part = Part(
        folder,
        keys={name: [key for key, _ in keyed] for name, keyed in documents.items()},
        lines={name: len(keyed) for name, keyed in documents.items()},
        dead_letters=replayed.log.dead_letters,
        outcomes=results.outcomes,
        triggers_dropped=results.triggers_dropped,
        fared=how_they_fared(results.triggers, replayed.customers, replayed.end_us),
    )
    for name, keyed in documents.items():
        write_lines(folder / name, (document for _, document in keyed))
    for change in results.changes:
        part.changes[change["dimension"], change["direction"], change["reason"]["trigger"]] += 1
    for profile in replayed.profiles:
        standing = profile["standing"]
        part.standings.update((dimension, standing[dimension] or "none") for dimension in DIMENSIONS)
    return part


def merge(path: Path, name: str, parts: Sequence[Part]) -> None:
    """Write one file of those that the parts have of this name."""
    with ExitStack() as stack:
        whole = stack.enter_context(path.open("wb"))
        lines = [stack.enter_context((part.folder / name).open("rb")) for part in parts]
        # Each part is in order, and sorting what consists of a few runs is merging them.
        places = [(key, at) for at, part in enumerate(parts) for key in part.keys[name]]
        for _, at in sorted(places):
            whole.write(next(lines[at]))


def write_lines(path: Path, documents: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON Lines."""
    with path.open("wb") as lines:
        for document in documents:
            lines.write(orjson.dumps(document) + b"\n")


def in_order(documents: Iterable[Published]) -> list[tuple[Key, Published]]:
    """Changes or triggers by time, customer and sequence, each with these."""
    keyed: list[tuple[Key, Published]] = [(_published_at(document), document) for document in documents]
    return sorted(keyed, key=lambda pair: pair[0])


def _published_at(document: Mapping[str, Any]) -> tuple[int, str, int]:
    sequence = document.get("sequence", 0)
    assert isinstance(sequence, int)
    return parse_timestamp(document["as_of"]), document["customer_id"], sequence
