"""`ebbtide convert`: files of other systems' events in, files of records and dead letters out."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from schemas.decode import decode
from schemas.rejection import Rejection
from schemas.topics import INPUT_TOPICS
from streams.cli.commands import main

Json = dict[str, Any]


def event(number: int, name: str = "Order Completed", **properties: Any) -> Json:
    return {
        "type": "track",
        "event": name,
        "messageId": f"m-{number}",
        "userId": f"u-{number}",
        "timestamp": f"2025-01-{1 + number:02}T12:00:00Z",
        "properties": {"order_id": f"o-{number}", "revenue": 10.5, "currency": "EUR", **properties},
    }


EVENTS = [
    event(0),
    event(1, "Email Bounced"),
    event(2, revenue=None),
    event(3, "Email Opened"),
    event(4, "Unsubscribed"),
]
LINES = "".join(json.dumps(one) + "\n" for one in EVENTS).encode()
COUNTS = {"purchases": 1, "engagements": 1, "consents": 1, "dead-letters": 1}
NO_TOTAL = "properties.revenue, properties.subtotal, properties.total, properties.value"


def read(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def converted(folder: Path, *files: str, name: str = "segment") -> dict[str, list[Json]]:
    """The lines of each file that the command writes."""
    out = folder / "out"
    assert main(["convert", "--from", name, *files, "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {f"{of}.jsonl" for of in (*INPUT_TOPICS, "dead-letters")}
    return {path.stem: read(path) for path in out.iterdir()}


def test_four_files_come_of_a_file_of_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every line is a record that the worker takes; what was ignored is counted by its name."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(LINES)
    out = converted(tmp_path, str(path))
    assert {of: len(lines) for of, lines in out.items()} == COUNTS
    for topic in INPUT_TOPICS:
        for line in (tmp_path / "out" / f"{topic}.jsonl").read_bytes().splitlines():
            assert not isinstance(decode(topic, line, json.loads(line)["customer_id"].encode()), Rejection)
    (letter,) = out["dead-letters"]
    assert base64.b64decode(letter.pop("value_base64")) == LINES.splitlines()[2]
    assert letter == {
        "mapping": "segment",
        "path": NO_TOTAL,
        "event": "Order Completed",
        "topic": "purchases",
        "reason": "Malformed",
        "message": f"segment: {NO_TOTAL}: missing, and total needs it",
        "file": str(path),
        "line": 3,
    }
    told = capsys.readouterr()
    assert told.out.splitlines()[:2] == [
        "5 events: 1 consents, 1 purchases, 1 engagements",
        "1 ignored: 1 Email Bounced",
    ]
    assert "1 of 5 events were refused:" in told.err


@pytest.mark.parametrize(
    "packed", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress]
)
@pytest.mark.parametrize("name", ["events.jsonl", "events"])
def test_compression_is_told_by_the_first_bytes(
    packed: Callable[[bytes], bytes], name: str, tmp_path: Path
) -> None:
    """Whatever the file is called."""
    path = tmp_path / name
    path.write_bytes(packed(LINES))
    assert len(converted(tmp_path, str(path))["purchases"]) == 1


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(EVENTS),
        json.dumps(EVENTS, indent=2),
        json.dumps({"batch": EVENTS}, indent=1),
        "\ufeff" + LINES.decode(),
        "\n\n" + LINES.decode().replace("\n", "\r\n\n"),
    ],
    ids=["array", "array over lines", "batch", "byte order mark", "blank lines"],
)
def test_a_file_is_lines_a_list_or_one_document(content: str, tmp_path: Path) -> None:
    """The same records come of each."""
    path = tmp_path / "events.json"
    path.write_text(content, encoding="utf-8")
    assert {of: len(lines) for of, lines in converted(tmp_path, str(path)).items()} == COUNTS


def test_patterns_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a pattern come in order, and `-` is what is piped in."""
    for number in range(3):
        (tmp_path / f"day-{number}.jsonl").write_text(json.dumps(event(2 - number)), encoding="utf-8")
    out = converted(tmp_path, str(tmp_path / "day-*.jsonl"))
    assert [one["order_id"] for one in out["purchases"]] == ["o-2", "o-1", "o-0"]

    class Piped:
        buffer = io.BufferedReader(io.BytesIO(gzip.compress(LINES)))

    monkeypatch.setattr("sys.stdin", Piped())
    assert len(converted(tmp_path, "-")["purchases"]) == 1


def test_rows_of_a_table_are_events(tmp_path: Path) -> None:
    """Their columns are the keys that a mapping names."""
    (tmp_path / "shop.yaml").write_text(
        """\
mapping: shop
event_name: {value: order}
fields: {customer_id: {path: E-Mail, as: lower}, occurred_at: {path: Paid at, as: time, zone: Europe/Berlin}}
rules:
  - event: [order]
    to: purchases
    set:
      kind: {value: order}
      order_id: Name
      currency: Currency
      total: {path: Cents, as: minor_units, currency: Currency}
""",
        encoding="utf-8",
    )
    (tmp_path / "orders.csv").write_text(
        'E-Mail;Paid at;Name;Currency;Cents\nA@b.example;2025-01-09 12:00;"#1";EUR;1999\nc@d.example;;#2;EUR;5\n',
        encoding="utf-8",
    )
    out = converted(tmp_path, str(tmp_path / "orders.csv"), name=str(tmp_path / "shop.yaml"))
    (order,) = out["purchases"]
    del order["event_id"]
    assert order == {
        "customer_id": "a@b.example",
        "occurred_at": "2025-01-09T11:00:00Z",
        "kind": "order",
        "order_id": "#1",
        "currency": "EUR",
        "total": "19.99",
    }
    assert [(one["path"], one["line"]) for one in out["dead-letters"]] == [("Paid at", 3)]


def test_a_bad_line_is_a_dead_letter_and_the_next_goes_on(tmp_path: Path) -> None:
    """Wherever it is, the first line too."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"cut": \n' + LINES + b"\xff\xfe\n[1, null]\n")
    out = converted(tmp_path, str(path))
    assert len(out["purchases"]) == 1
    letters = [(letter["line"], letter["path"]) for letter in out["dead-letters"]]
    assert letters == [(1, "$"), (4, NO_TOTAL), (7, "$"), (8, "."), (8, ".")]
    assert out["dead-letters"][0]["message"].startswith("segment: $: not JSON")
    assert out["dead-letters"][-1]["message"] == "segment: .: not a JSON object"


def test_check_shows_each_field_and_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And writes nothing."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(LINES * 3)
    assert main(["convert", "--from", "segment", str(path), "--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}:1  Order Completed → purchases"
    words = [line.split() for line in lines]
    assert words[1:5] == [
        ["event_id", "m-0", "messageId"],
        ["customer_id", "u-0", "userId"],
        ["occurred_at", "2025-01-01T12:00:00Z", "timestamp"],
        ["kind", "order", "the", "mapping"],
    ]
    assert ["total", "10.5", "properties.revenue"] in words
    assert f"{path}:2  Email Bounced: ignored, counted as Email Bounced" in lines
    refused = f"{path}:3  Order Completed → purchases: dead letter Malformed, segment: {NO_TOTAL}"
    assert any(line.startswith(refused) for line in lines)
    assert not any(line.startswith(f"{path}:6") for line in lines)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there is no event in these files"),
        (json.dumps(event(0, "Email Bounced")).encode(), "no event made a record; 1 events: 0 consents"),
        (
            json.dumps(event(0, revenue="x")).encode(),
            "no event was accepted: 1 of 1 events were refused: 1 Mal",
        ),
        (gzip.compress(LINES)[:-9], "cannot be decompressed"),
        (bz2.compress(LINES)[:-9], "cannot be decompressed"),
        (zstandard.ZstdCompressor().compress(LINES * 99)[:-9] + bytes(9), "cannot be decompressed"),
    ],
    ids=["empty", "ignored", "refused", "gzip", "bzip2", "zstandard"],
)
def test_nothing_accepted_is_an_error(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and one line that says why."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(content)
    assert main(["convert", "--from", "segment", str(path), "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "segment"], "--from and files are needed"),
        (["{path}"], "--from and files are needed"),
        (["--from", "segment", "{path}"], "--out or --check is needed"),
        (["--from", "segmnet", "{path}", "--check"], "no mapping is called 'segmnet'"),
        (["--from", "segment", "{path}.gone", "--check"], "does not exist"),
        (["--from", "segment", "{path}*.gone", "--check"], "no file is called"),
        (["--from", "segment", "{folder}", "--check"], "is a folder"),
        (["--from", "segment", "{path}", "--check", "--currency", "euro"], "three letters"),
    ],
)
def test_wrong_use(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2."""
    path = tmp_path / "events"
    path.write_bytes(LINES)
    assert main(["convert", *(one.format(path=path, folder=tmp_path) for one in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_the_mappings_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """With what each takes."""
    assert main(["convert", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16
    assert all(len(line.split()) > 5 for line in lines)


def test_what_is_converted_replays(tmp_path: Path) -> None:
    """The files go straight into `ebbtide replay`."""
    path = tmp_path / "events.jsonl"
    path.write_text("".join(f"{json.dumps(event(number, currency='USD'))}\n" for number in range(5)))
    converted(tmp_path, str(path))
    files = [word for of in INPUT_TOPICS for word in (f"--{of}", str(tmp_path / "out" / f"{of}.jsonl"))]
    assert main(["replay", *files, "--out", str(tmp_path / "replayed"), "--fail-over-refused", "0"]) == 0
    assert len(read(tmp_path / "replayed" / "customer-profiles.jsonl")) == 5
