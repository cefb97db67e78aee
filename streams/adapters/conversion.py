"""`ebbtide convert`: files of other systems' events to files of records, and of what no record was made of."""

from __future__ import annotations

import base64
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import orjson

from schemas.rejection import Rejection
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.adapters.converter import Converter, Outcome, Unmapped
from streams.adapters.documents import Document, read_documents
from streams.console.progress import Report
from streams.console.refusals import Example, Refusals
from streams.errors import EbbtideError

FILES: Final[Mapping[InputTopic, str]] = {topic: f"{topic}.jsonl" for topic in INPUT_TOPICS}
DEAD_LETTERS: Final = "dead-letters.jsonl"


class Place(NamedTuple):
    """Where a document was read: the file as it was named, and the line, counted from 1."""

    file: str
    line: int


class Converted(NamedTuple):
    """What became of one event: where its document was read, the document's bytes, and the outcome."""

    place: Place
    value: bytes
    outcome: Outcome


@dataclass(slots=True)
class Conversion:
    """What became of all events: how many there were, records by topic, and ignored events by their names."""

    events: int = 0
    records: Counter[InputTopic] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    dead_letters: int = 0
    """On the topic of this name, where the events come from one; those of files are counted with what was refused."""

    def add(self, other: Conversion) -> None:
        """Count what became of other events too."""
        self.events += other.events
        self.records += other.records
        self.ignored += other.ignored
        self.dead_letters += other.dead_letters

    def text(self) -> str:
        """How many events and records, and which events were ignored, for people."""
        made = ", ".join(f"{self.records[topic]:,} {topic}" for topic in FILES)
        lines = [f"{self.events:,} events: {made}"]
        if self.ignored:
            names = [f"{count:,} {name}" for name, count in sorted(self.ignored.items(), key=_commonest)]
            lines.append(f"{self.ignored.total():,} ignored: {', '.join(names)}")
        if self.dead_letters:
            lines.append(f"{self.dead_letters:,} dead letters")
        return "\n".join(lines)


def converted(paths: Iterable[Path], converter: Converter, limit_bytes: int) -> Iterator[Converted]:
    """What becomes of each event of files, in their order.

    Raises:
        EbbtideError: A file is damaged, or beyond the limit.
        OSError: A file cannot be read.
    """
    for path in paths:
        for document in read_documents(path, limit_bytes):
            place = Place(str(path), document.line)
            for outcome in _outcomes(document, converter):
                yield Converted(place, document.value, outcome)


def run_conversion(
    paths: Sequence[Path],
    converter: Converter,
    out: Path,
    refusals: Refusals,
    limit_bytes: int,
    report: Report | None = None,
) -> Conversion:
    """Write `purchases.jsonl`, `engagements.jsonl`, `consents.jsonl` and `dead-letters.jsonl` into `out`.

    Records are in the order in which their events were read. All four files appear when they are whole, empty ones
    too. `refusals` counts the events; one of which some records were made, and others not, counts as refused.

    Raises:
        EbbtideError: A file is damaged, or beyond the limit.
        OSError: A file cannot be read or written.
    """
    conversion = Conversion()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=out) as name:
        folder = Path(name)
        with ExitStack() as stack:
            files = {topic: stack.enter_context((folder / file).open("wb")) for topic, file in FILES.items()}
            letters = stack.enter_context((folder / DEAD_LETTERS).open("wb"))
            for one in converted(paths, converter, limit_bytes):
                _write(one, files, letters, conversion, refusals)
                if report is not None:
                    report(conversion.events, 0)
        for file in (*FILES.values(), DEAD_LETTERS):
            (folder / file).replace(out / file)
    return conversion


def check_something_came_of_it(conversion: Conversion) -> None:
    """Fail where no event made a record.

    Raises:
        EbbtideError: None did; the message says what became of them.
    """
    if not conversion.events:
        raise EbbtideError("there is no event in these files")
    if not conversion.records.total():
        raise EbbtideError(f"no event made a record; {' '.join(conversion.text().splitlines())}")


def _write(
    one: Converted,
    files: Mapping[InputTopic, BinaryIO],
    letters: BinaryIO,
    conversion: Conversion,
    refusals: Refusals,
) -> None:
    conversion.events += 1
    refusals.read += 1
    for made in one.outcome.made:
        files[made.topic].write(made.value + b"\n")
        conversion.records[made.topic] += 1
    if one.outcome.ignored is not None:
        conversion.ignored[one.outcome.ignored] += 1
    for why in one.outcome.unmapped:
        letters.write(orjson.dumps(_letter(one, why)) + b"\n")
    if one.outcome.unmapped:
        why = one.outcome.unmapped[0]
        refusals.add(why.reason, Example(one.place.file, one.place.line, why.message))
    else:
        refusals.accepted += 1


def _letter(one: Converted, why: Unmapped) -> dict[str, Any]:
    """A line of `dead-letters.jsonl`; `topic` is that of the record that was to be made, where that is known."""
    return {
        "mapping": why.mapping,
        "path": why.path,
        "event": one.outcome.event_name,
        "topic": why.topic,
        "reason": why.reason,
        "message": why.message,
        "value_base64": base64.b64encode(one.value).decode("ascii"),
        "file": one.place.file,
        "line": one.place.line,
    }


def _outcomes(document: Document, converter: Converter) -> Iterator[Outcome]:
    if isinstance(document.content, Rejection):
        yield converter.unreadable(document.content)
    else:
        yield from converter.convert(document.content)


def _commonest(pair: tuple[str, int]) -> tuple[int, str]:
    return -pair[1], pair[0]
