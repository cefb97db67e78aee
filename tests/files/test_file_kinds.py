"""Files of other kinds, given for JSON Lines: each is refused by its name, in one line that says what it is."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from streams.cli.commands import main
from streams.files.file_kinds import BYTE_ORDER_MARK, other_kind

ORDER: dict[str, Any] = {
    "event_id": "e1",
    "customer_id": "c1",
    "occurred_at": "2025-01-09T12:00:00Z",
    "kind": "order",
    "order_id": "o1",
    "currency": "USD",
    "total": "10.00",
}
LINE = json.dumps(ORDER).encode() + b"\n"
CELLS = ",".join(ORDER), ",".join(ORDER.values())
TABLES = {
    "CSV": ("\n".join(CELLS).encode(), "CSV"),
    "CSV of a spreadsheet": (("\ufeff" + "\r\n".join(CELLS).replace(",", ";")).encode(), "CSV"),
    "CSV without a header": (f"{CELLS[1]}\n{CELLS[1]}\n".encode(), "CSV"),
    "tabs": ("\n".join(CELLS).replace(",", "\t").encode(), "CSV"),
    "quoted cells": (b'"id","name"\n"1","a, b"\n', "CSV"),
    "Parquet": (b"PAR1\x15\x04\x15\x00" + bytes(50), "Parquet"),
}  # fmt: skip
OTHER_KINDS = {
    "a JSON array": (json.dumps([ORDER]).encode(), "a JSON array; `jq -c '.[]'`"),
    "a JSON array over lines": (b"\n" + json.dumps([ORDER], indent=1).encode(), "a JSON array"),
    "JSON over lines": (json.dumps(ORDER, indent=2).encode(), "JSON over several lines; `jq -c .`"),
    "ORC": (b"ORC\x11\x00", "ORC"),
    "Avro": (b"Obj\x01\x04\x14avro.codec", "Avro"),
    "UTF-16": (LINE.decode().encode("utf-16"), "UTF-16 text; `iconv -f UTF-16 -t UTF-8`"),
    "UTF-16, big end first": (b"\xfe\xff" + LINE.decode().encode("utf-16-be"), "UTF-16 text"),
    "UTF-16 without a byte order mark": (LINE.decode().encode("utf-16-le"), "UTF-16LE text"),
    "UTF-16BE without a checkpoint": (LINE.decode().encode("utf-16-be"), "UTF-16BE text"),
    "UTF-32": (LINE.decode().encode("utf-32"), "UTF-32 text"),
    "lz4": (b"\x04\x22\x4d\x18", "lz4; unpack it first"),
}  # fmt: skip
COMMANDS = (
    ("replay", "--out", "{out}", "--purchases"),
    ("calibrate", "--out", "{out}", "--purchases"),
    ("audit", "--by", "region", "--profiles"),
    ("whatif", "--tier", "named=5%", "--profiles"),
)


def refusal(command: tuple[str, ...], path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with; nothing is written."""
    out = path.parent / "out"
    assert main([*(part.format(out=out) for part in command), str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert not out.exists()
    return line


CASES = [
    pytest.param(command, *case, id=f"{command[0]}-{name}")
    for command in COMMANDS
    for name, case in ({**TABLES, **OTHER_KINDS} if "--profiles" in command else OTHER_KINDS).items()
]


@pytest.mark.parametrize(("command", "content", "kind"), CASES)
def test_a_file_of_another_kind_is_refused_by_its_name(
    command: tuple[str, ...], content: bytes, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and the line says which file it is, and of which kind; the same where it is compressed."""
    plain, packed = tmp_path / "given.jsonl", tmp_path / "given.jsonl.gz"
    plain.write_bytes(content)
    packed.write_bytes(gzip.compress(content))
    for path in (plain, packed):
        expected = f"ebbtide: error: {path}: no JSON Lines (one object a line, in UTF-8), but {kind}"
        assert refusal(command, path, capsys).startswith(expected)


def test_a_spreadsheet_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An .xlsx is a zip archive."""
    path = tmp_path / "purchases.jsonl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    assert "but a zip archive or a spreadsheet" in refusal(COMMANDS[0], path, capsys)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        LINE,
        BYTE_ORDER_MARK + LINE,
        b"\n \n" + LINE,
        b"not, json\n" + LINE,
        b"{\n" + LINE,
        b"\xff\xfe\n" + LINE,
        b"a line\nof text\n",
        b'"a, string"\n' + LINE,
        LINE[:20],
    ],
)
def test_a_bad_line_makes_no_other_kind_of_file(content: bytes) -> None:
    """It is one bad record, and the others are taken."""
    assert other_kind(content) is None


@pytest.mark.parametrize("name", ["purchases.jsonl", "purchases.jsonl.gz"])
@pytest.mark.parametrize("topic_file", ["only", "concatenated"])
def test_a_byte_order_mark_costs_no_record(
    name: str, topic_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first line, and before the first line of a file that was put behind another."""
    path = tmp_path / name
    content = BYTE_ORDER_MARK + LINE
    if topic_file == "concatenated":
        content += BYTE_ORDER_MARK + LINE.replace(b"e1", b"e2").replace(b"o1", b"o2")
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    out = tmp_path / "out"
    assert main(["replay", "--purchases", str(path), "--out", str(out)]) == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("0 of ")
    (profile,) = map(json.loads, (out / "customer-profiles.jsonl").read_text().splitlines())
    assert profile["aggregates"]["order_count"] == (2 if topic_file == "concatenated" else 1)


def test_a_file_of_nothing_but_a_byte_order_mark_holds_no_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is an empty file."""
    path = tmp_path / "purchases.jsonl"
    path.write_bytes(BYTE_ORDER_MARK)
    assert main(["replay", "--purchases", str(path), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("0 events of 0 customers")
