"""The command line: what it offers, its exit codes, and errors in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import streams.replay.files
from streams.cli.commands import main
from streams.demo.embedded import EmbeddedBroker, free_port
from streams.errors import EbbtideError
from streams.kafka import admin

ROOT = Path(__file__).parents[2]


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """A file of two orders, of 9 and 10 January 2025."""
    lines = [
        {
            "event_id": f"e{day}",
            "customer_id": "c1",
            "occurred_at": f"2025-01-{day:02}T12:00:00Z",
            "kind": "order",
            "order_id": f"o{day}",
            "currency": "USD",
            "total": "10.00",
        }
        for day in (9, 10)
    ]
    path = tmp_path / "purchases.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def failure(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """The exit code and the one line on stderr, without its beginning, which is always the same."""
    code = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("ebbtide: error: ")
    return code, line.removeprefix("ebbtide: error: ")


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, cwd=ROOT, check=False)


def test_python_m_streams_is_ebbtide() -> None:
    """The module has the command's help, which lists the commands that work."""
    done = run_python("-m", "streams", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ebbtide ")
    listed = done.stdout.partition("Commands:\n")[2].split("\n")
    names = [line.split()[0] for line in listed if line.startswith("  ") and line[2] != " "]
    assert names == [
        *(
            "analyze",
            "audit",
            "calibrate",
            "convert",
            "deliver",
            "demo",
            "dlq",
            "doctor",
            "erase",
            "explain",
            "export",
            "load",
            "outcomes",
            "profiles",
            "replay",
            "run",
            "schemas",
            "skip",
            "topics",
        ),
        "whatif",
    ]


def test_help_loads_none_of_the_heavy_packages() -> None:
    """Help is quick, since each command imports what it needs when it runs."""
    heavy = ["numpy", "pandas", "faust", "aiokafka", "kafka", "redis", "pydantic", "rich"]
    done = run_python(
        "-c", f"import sys, streams.cli.commands; print([m for m in {heavy} if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nosuch"], "No such command 'nosuch'"),
        (["--nosuch"], "No such option"),
        (["replay", "--out", "x", "--nosuch"], "No such option"),
        (["replay"], "Missing option '--out'"),
        (["replay", "--out", "x"], "at least one of --purchases, --engagements and --consents is needed"),
        (["replay", "--out", "x", "--purchases", "/nowhere.jsonl"], "'/nowhere.jsonl' does not exist"),
        (["replay", "--out", "x", "--model", "/nowhere.yaml"], "'/nowhere.yaml' does not exist"),
        (["calibrate", "--out", "x"], "--purchases is needed, or --from-kafka, or --from-redis"),
        (["run", "--workers", "0"], "Invalid value for '--workers'"),
        (["topics", "create", "--partitions", "0"], "Invalid value for '--partitions'"),
        (["topics", "nosuch"], "No such command 'nosuch'"),
        (["profiles", "--out", "x", "--until", "soon"], "'soon': a time is RFC 3339 with an offset"),
        (["profiles", "--out", "x", "--until", "2025-01-09T12:00:00"], "RFC 3339 with an offset"),
        (["profiles", "--out", "x", "--until", "2025-02-30"], "no such day"),
        (["explain"], "Missing argument 'CUSTOMER_ID'"),
        (["erase"], "Missing argument 'CUSTOMER_ID'"),
        (["erase", "c1", "--at", "soon"], "'soon': a time is RFC 3339 with an offset"),
        (["dlq", "list", "--reason", "Nope"], "'Nope' is not one of 'Malformed'"),
        (["dlq", "list", "--topic", "dead-letters"], "is not one of 'purchases'"),
        (["dlq", "redrive", "3-17"], "'3-17': a place is PARTITION:OFFSET"),
        (["dlq", "redrive", "3:"], "'3:': a place is PARTITION:OFFSET"),
        (["--config", "/nowhere.yaml", "doctor"], "'/nowhere.yaml' does not exist"),
    ],
)
def test_wrong_use_is_one_line_with_a_hint_and_exit_code_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line says what is wrong and which help to read."""
    code, line = failure(capsys, *arguments)
    assert code == 2
    assert expected in line
    assert line.endswith("--help`)")


def test_a_wrong_setting_ends_every_start_with_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], orders: Path, tmp_path: Path
) -> None:
    """Unknown variables stop commands before anything is done."""
    monkeypatch.setenv("EBBTIDE_CLOK", "event")
    expected = (2, "EBBTIDE_CLOK: no such setting; did you mean EBBTIDE_CLOCK?")
    assert failure(capsys, "doctor") == expected
    assert failure(capsys, "run") == expected
    assert failure(capsys, "replay", "--purchases", orders, "--out", tmp_path / "out") == expected
    assert not (tmp_path / "out").exists()


def test_a_broken_model_ends_replay_with_exit_code_2(
    capsys: pytest.CaptureFixture[str], orders: Path, tmp_path: Path
) -> None:
    """The line names the file and the key."""
    model = tmp_path / "model.yaml"
    model.write_text("name: mine\n", encoding="utf-8")
    arguments = ("replay", "--purchases", orders, "--model", model, "--out", tmp_path / "out")
    code, line = failure(capsys, *arguments)
    assert code == 2
    assert line.startswith(f"--model: model {model}: version: ")


def test_an_unreachable_broker_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names the address and the setting."""
    monkeypatch.setattr(admin, "TIMEOUT_S", 0.5)
    monkeypatch.setenv("EBBTIDE_KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    code, line = failure(capsys, "topics", "describe")
    assert code == 1
    assert line.startswith("no Kafka broker answers within 0.5 s at 127.0.0.1:")
    assert "EBBTIDE_KAFKA_BOOTSTRAP_SERVERS" in line


def test_replay_writes_its_files_and_tells_where(
    orders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The five files of docs/contract.md section 7 are written; progress goes to stderr."""
    out = tmp_path / "out"
    assert main(["replay", "--purchases", str(orders), "--purchases", str(orders), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {
        "segment-changes.jsonl",
        "reactivation-triggers.jsonl",
        "customer-profiles.jsonl",
        "dead-letters.jsonl",
        "summary.json",
    }
    assert capsys.readouterr().out == f"4 events of 1 customers; the results are in {out}\n"


@pytest.mark.parametrize(
    ("until", "ignored"),
    [("2025-01-10", 1), ("2025-01-10T13:00:00+01:00", 0), ("2025-01-10T12:59:59+01:00", 1)],
)
def test_until_takes_a_time_or_the_first_instant_of_a_date(
    until: str, ignored: int, orders: Path, tmp_path: Path
) -> None:
    """Events after T are ignored and counted; oracle: the orders are of noon, UTC, on 9 and 10 January."""
    assert main(["replay", "--purchases", str(orders), "--until", until, "--out", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert summary["events"]["purchases"]["after_until"] == ignored


def test_a_file_that_cannot_be_read_is_one_line(
    orders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is only named .gz is no gzip file."""
    misnamed = orders.rename(orders.with_suffix(".jsonl.gz"))
    code, line = failure(capsys, "replay", "--purchases", misnamed, "--out", tmp_path / "out")
    assert code == 1
    assert "gzip" in line


@pytest.mark.parametrize("arguments", [["--debug", "replay"], ["replay", "--debug"]])
def test_debug_shows_the_stack_trace(
    arguments: list[str],
    orders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without --debug an error is one line, with it the trace comes first; it may stand at either place."""

    def fails(**_: Any) -> None:
        raise EbbtideError("the sea is rough")

    monkeypatch.setattr(streams.replay.files, "run_replay", fails)
    files = ["--purchases", str(orders), "--out", str(tmp_path)]
    assert failure(capsys, "replay", *files) == (1, "the sea is rough")
    assert main([*arguments, *files]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Traceback (most recent call last):")
    assert error.endswith("ebbtide: error: the sea is rough\n")


def test_a_defect_is_one_line_that_says_how_to_see_more(
    orders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exception that nobody foresaw is named with its type."""

    def fails(**_: Any) -> None:
        raise KeyError("tide")

    monkeypatch.setattr(streams.replay.files, "run_replay", fails)
    line = failure(capsys, "replay", "--purchases", orders, "--out", tmp_path)
    assert line == (1, "KeyError: 'tide' (--debug shows where)")


def test_an_interrupt_ends_quietly_with_130(
    orders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C is no error to be told."""

    def interrupted(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(streams.replay.files, "run_replay", interrupted)
    assert main(["replay", "--purchases", str(orders), "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.strip() == ""


def test_a_closed_pipe_is_no_error() -> None:
    """`ebbtide ... | head` ends without a word on stderr, though whoever read the output has gone."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "streams", "schemas", "--help"]
    done = subprocess.run(
        command, stdout=write_end, stderr=subprocess.PIPE, timeout=180, cwd=ROOT, check=False
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, b"")


def test_schemas_export_writes_the_documents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The documents that are exported are those in the repository."""
    assert main(["schemas", "export", str(tmp_path)]) == 0
    written = capsys.readouterr().out.splitlines()
    assert f"{tmp_path}/asyncapi.yaml" in written
    for path in written:
        name = Path(path).relative_to(tmp_path)
        assert Path(path).read_bytes() == (ROOT / "schemas" / name).read_bytes()


def test_topics_are_created_and_described(
    embedded_broker: EmbeddedBroker,
    unique_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """`topics describe` fails before `topics create`, and prints one line per topic after it."""
    config = tmp_path / "ebbtide.yaml"
    config.write_text(f"topic_prefix: {unique_prefix}\n", encoding="utf-8")
    monkeypatch.setenv("EBBTIDE_KAFKA_BOOTSTRAP_SERVERS", embedded_broker.bootstrap_servers)
    describe = ["topics", "describe", "--config", str(config)]
    assert main(describe) == 1
    assert f"ebbtide: error: missing: {unique_prefix}purchases, " in capsys.readouterr().err
    assert main(["--config", str(config), "topics", "create", "--partitions", "3"]) == 0
    assert capsys.readouterr().out.count("created ") == 8
    assert main(describe) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        [f"{unique_prefix}{name}", "3"] for name in ("purchases", "engagements", "consents")
    ]


@pytest.mark.parametrize(
    "url", ["redis://me:hunter2@b/c@host", "redis://me:hunter2#x@host", "redis://hunter2:hunter2"]
)
def test_a_stack_trace_shows_no_password(
    url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also with `--debug`, where all that led to an error is told."""
    monkeypatch.setenv("EBBTIDE_REDIS_URL", url)
    assert main(["doctor", "--debug"]) == 2
    said = capfd.readouterr()
    assert "Traceback" in said.err
    assert "hunter2" not in said.out + said.err


def test_the_doctor_prints_a_line_per_check_and_fails_on_an_error(
    embedded_broker: EmbeddedBroker,
    redis_url: str,
    unique_prefix: str,
    model_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 1 with missing topics; 0 once they are there, with at_least_once."""
    monkeypatch.setenv("EBBTIDE_MODEL", str(model_file))
    monkeypatch.setenv("EBBTIDE_KAFKA_BOOTSTRAP_SERVERS", embedded_broker.bootstrap_servers)
    monkeypatch.setenv("EBBTIDE_REDIS_URL", redis_url)
    monkeypatch.setenv("EBBTIDE_TOPIC_PREFIX", unique_prefix)
    monkeypatch.setenv("EBBTIDE_PROCESSING_GUARANTEE", "at_least_once")
    monkeypatch.setenv("EBBTIDE_ERASURE_KEY", "a key of one's own for this test")
    assert main(["doctor"]) == 1
    assert "error    topics        missing: " in capsys.readouterr().out
    assert main(["topics", "create"]) == 0
    capsys.readouterr()
    assert main(["doctor"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {"ok"}
