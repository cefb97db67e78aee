"""Documented payloads of other systems: each converts to the right records, or to the right dead letter."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.decode import decode
from schemas.rejection import Rejection
from streams.adapters.converter import Converter, Outcome
from streams.adapters.documents import parsed, read_documents
from streams.adapters.mapping import load_mapping
from tests.adapters.table import TABLE, Expected, Ignored, Letter, Record, Row

PAYLOADS = Path(__file__).parents[1] / "data" / "payloads"
INDEX = json.loads((PAYLOADS / "INDEX.json").read_text("utf-8"))
DEFAULTS = {"automated": False}
BARE = [row for row in TABLE if row.wrap is not None]


def converter_of(row: Row) -> Converter:
    """The shipped mapping that the file is named after."""
    return Converter(load_mapping(row.file.partition("_")[0]))


def outcomes_of(path: Path, converter: Converter) -> list[Outcome]:
    """What becomes of a file's events."""
    found: list[Outcome] = []
    for document in read_documents(path):
        if isinstance(document.content, Rejection):
            found.append(converter.unreadable(document.content))
        else:
            found += converter.convert(document.content)
    return found


def in_each_event(document: Any, do: Callable[[dict[str, Any]], None]) -> None:
    """Reach the events in a payload as its publisher nests them."""
    for one in document if isinstance(document, list) else [document]:
        inner = next((one[key] for key in ("events", "order", "refund", "customer") if key in one), one)
        for event in inner if isinstance(inner, list) else [inner]:
            do(event)


def check(outcomes: list[Outcome], expected: Expected, mapping: str) -> None:
    """All that came is expected, and all that is expected came."""
    records = [one for one in expected if isinstance(one, Record)]
    made = [one for outcome in outcomes for one in outcome.made]
    assert [one.topic for one in made] == [one.topic for one in records]
    for one, wanted in zip(made, records, strict=True):
        assert {name: one.record.get(name, DEFAULTS.get(name)) for name in wanted.fields} == wanted.fields
        assert not isinstance(decode(one.topic, one.value, one.record["customer_id"].encode()), Rejection)
    letters = [one for one in expected if isinstance(one, Letter)]
    unmapped = [one for outcome in outcomes for one in outcome.unmapped]
    assert len(unmapped) == len(letters)
    for why, letter in zip(unmapped, letters, strict=True):
        assert why.message.startswith(f"{mapping}: {letter.message}")
        assert why.path
    names = [one.name for one in expected if isinstance(one, Ignored)]
    assert [outcome.ignored for outcome in outcomes if outcome.ignored is not None] == names


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.file)
def test_a_payload_as_it_is(row: Row) -> None:
    """The table says what comes of it, and why."""
    check(outcomes_of(PAYLOADS / row.file, converter_of(row)), row.as_it_is, row.file.partition("_")[0])


@pytest.mark.parametrize("row", BARE, ids=lambda row: row.file)
def test_a_bare_example_with_the_id_and_time_that_it_lacks(row: Row, tmp_path: Path) -> None:
    """As it would come from the system itself."""
    document = json.loads((PAYLOADS / row.file).read_text("utf-8"))
    in_each_event(document, lambda event: event.update(row.wrap or {}))
    path = tmp_path / row.file
    path.write_text(json.dumps(document), encoding="utf-8")
    check(outcomes_of(path, converter_of(row)), row.wrapped, row.file.partition("_")[0])


def test_the_table_names_every_payload_once() -> None:
    """None is left out, and each has a reason."""
    assert sorted(row.file for row in TABLE) == sorted(one["file"] for one in INDEX)
    assert all(row.why for row in TABLE)


@pytest.mark.parametrize("one", INDEX, ids=lambda one: one["file"])
def test_a_payload_is_what_its_publisher_has(one: dict[str, str]) -> None:
    """Byte for byte, with its source and licence named."""
    assert hashlib.sha256((PAYLOADS / one["file"]).read_bytes()).hexdigest() == one["sha256"]
    assert one["licence"] in ("CC-BY-4.0", "BSD-3-Clause", "Apache-2.0", "MIT")


def ids_of(document: Any, row: Row) -> list[tuple[str, str]]:
    return [
        (made.topic, made.record["event_id"])
        for outcome in converter_of(row).convert(document)
        for made in outcome.made
    ]


@pytest.mark.parametrize(
    "row", [row for row in TABLE if isinstance(row.as_it_is[0], Record)], ids=lambda row: row.file
)
def test_an_id_is_of_what_the_event_says(row: Row) -> None:
    """The same event gives the same id, however its keys are ordered and its text is spaced."""
    content = (PAYLOADS / row.file).read_bytes()
    reordered = json.dumps(json.loads(content), sort_keys=True).encode()
    assert ids_of(parsed(content), row) == ids_of(parsed(reordered), row) != []


def test_different_events_have_different_ids() -> None:
    """Of all payloads: no two records of one customer and topic share an id, but for consents of one event."""
    seen: dict[tuple[str, str, str], str] = {}
    for row in TABLE:
        for outcome in outcomes_of(PAYLOADS / row.file, converter_of(row)):
            for made in outcome.made:
                key = made.topic, made.record["customer_id"], made.record["event_id"]
                assert seen.setdefault(key, row.file) == row.file
