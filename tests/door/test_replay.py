"""`ebbtide.replay`: the same as the command, from files and from records in memory."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

import ebbtide
from schemas.topics import INPUT_TOPICS
from streams.analysis.replaying import time_us
from streams.cli.commands import main
from tests.door.isolated import run_core
from tests.oracles.seeded_log import make_log, write_log

LOG = make_log(7, events=400)
MODEL = ebbtide.load_model().with_base_currency("USD")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def by_command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log's files beside what the command makes of them."""
    folder = tmp_path_factory.mktemp("replay")
    files = write_log(LOG, folder)
    arguments = [argument for topic in INPUT_TOPICS for argument in (f"--{topic}", str(files[topic]))]
    assert main(["replay", *arguments, "--out", str(folder / "out")]) == 0
    return folder


@pytest.mark.parametrize("source", ["a file", "a list of files", "documents", "bytes"])
def test_it_gives_what_the_command_writes(by_command: Path, source: str) -> None:
    """Oracle: `ebbtide replay` on the same records."""
    inputs: dict[str, Any] = {}
    for topic in INPUT_TOPICS:
        path = next(by_command.glob(f"{topic}.jsonl*"))
        inputs[topic] = {
            "a file": path,
            "a list of files": [str(path)],
            "documents": LOG[topic],
            "bytes": [json.dumps(record).encode() for record in LOG[topic]],
        }[source]
    replayed = ebbtide.replay(**inputs)
    out = by_command / "out"
    assert replayed.changes == lines(out / "segment-changes.jsonl")
    assert replayed.triggers == lines(out / "reactivation-triggers.jsonl")
    assert replayed.profiles == lines(out / "customer-profiles.jsonl")
    assert replayed.changes
    told = [
        (letter["topic"], letter["reason"], letter["line"]) for letter in lines(out / "dead-letters.jsonl")
    ]
    assert sorted((one.topic, one.reason, one.line) for one in replayed.refused) == sorted(told)


def test_what_is_refused_is_told_with_its_place() -> None:
    """By topic, and by the number of the record in it."""
    good = {
        "event_id": "e",
        "customer_id": "c",
        "occurred_at": "2025-01-09T12:00:00Z",
        "kind": "order",
        "order_id": "o",
        "currency": "USD",
        "total": "10.00",
    }
    replayed = ebbtide.replay(purchases=[good, {**good, "total": 10}, b"{"], model=MODEL)
    assert [(one.line, one.reason) for one in replayed.refused] == [(2, "Malformed"), (3, "Malformed")]
    assert replayed.outcomes["purchases", "dead_letter"] == 2
    assert replayed.as_of == "2025-01-09T12:00:00Z"


def test_an_end_may_be_written_in_every_usual_way() -> None:
    """A date is its first instant, UTC; a time without a zone is UTC."""
    expected = 1_736_380_800_000_000
    assert [
        time_us(until)
        for until in (
            "2025-01-09",
            "2025-01-09T00:00:00Z",
            date(2025, 1, 9),
            datetime(2025, 1, 9),
            datetime(2025, 1, 9, tzinfo=UTC),
            expected,
        )
    ] == [expected] * 6
    assert time_us(None) is None


def test_it_works_where_only_the_core_is_installed(by_command: Path) -> None:
    """Neither Faust nor a client of Kafka or Redis is loaded."""
    path = next(by_command.glob("purchases.jsonl*"))
    done = run_core("import ebbtide; print(len(ebbtide.replay(purchases=sys.argv[1]).profiles))", str(path))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
