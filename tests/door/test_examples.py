"""The examples: the notebook runs from top to bottom, and the consumer takes each change once."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

import ebbtide
from ebbtide.testing import engagement, model, order
from ebbtide.testing.services import make_settings
from examples.segment_changes import TABLES, run, take
from streams.demo.embedded import EmbeddedBroker
from streams.kafka.topics import create_topics
from tests.door.isolated import ROOT, run_core
from tools.run_notebook import run_notebook

NOTEBOOK = ROOT / "examples" / "analyze.ipynb"
WAIT_S = 60.0


def cells(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in document["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_runs_where_only_the_core_is_installed(tmp_path: Path) -> None:
    """Every cell, in order; and each that shows something in the repository shows something here."""
    program = (
        "import json\n"
        "from pathlib import Path\n"
        "from tools.run_notebook import run_notebook\n"
        "print(json.dumps(run_notebook(json.loads(Path(sys.argv[1]).read_text('utf-8')))))"
    )
    done = run_core(program, str(NOTEBOOK), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    here, committed = json.loads(done.stdout), json.loads(NOTEBOOK.read_text("utf-8"))
    assert here["nbformat"] == 4
    assert [cell["source"] for cell in cells(here)] == [cell["source"] for cell in cells(committed)]
    assert [bool(cell["outputs"]) for cell in cells(here)] == [
        bool(cell["outputs"]) for cell in cells(committed)
    ]
    assert all(cell["outputs"] for cell in cells(here))
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"report.html", "model.yaml", "records/purchases.jsonl"} <= written
    assert ebbtide.load_model(tmp_path / "model.yaml").name == "fitted"


def test_the_committed_outputs_name_no_machine() -> None:
    """Neither a path nor an error is in them."""
    text = json.dumps([cell["outputs"] for cell in cells(json.loads(NOTEBOOK.read_text("utf-8")))])
    assert re.search(r"/(home|root|work|tmp|Users)/|Traceback|Warning", text) is None


def test_a_cell_that_fails_fails_the_notebook() -> None:
    """What ran before it does not hide it."""
    broken = {"cells": [{"cell_type": "code", "source": ["1 / 0"]}]}
    with pytest.raises(ZeroDivisionError):
        run_notebook(broken)


@pytest.fixture(scope="module")
def changes() -> list[dict[str, Any]]:
    """Of a customer who rises into a tier, and falls out of it again."""
    stream = ebbtide.LocalStream(model(hysteresis={"dwell_days": 0}))
    for month in range(1, 13):
        stream.take(order(f"2024-{month:02}-15", "900.00"), engagement("clicked", f"2024-{month:02}-16"))
    stream.pass_midnight("2026-06-01")
    assert any(one["dimension"] == "tier" and one["direction"] == "downgrade" for one in stream.changes)
    return stream.changes


def test_the_consumer_acts_on_a_change_once(changes: list[dict[str, Any]]) -> None:
    """Handed over twice, it is taken once; only falls of tier become calls."""
    database = sqlite3.connect(":memory:")
    database.executescript(TABLES)
    assert [take(database, change) for change in [*changes, *changes]] == [True] * len(changes) + [
        False
    ] * len(changes)
    falls = [
        (one["customer_id"], one["as_of"], one["current"])
        for one in changes
        if one["dimension"] == "tier" and one["direction"] == "downgrade"
    ]
    assert database.execute("SELECT customer_id, since, tier FROM calls").fetchall() == falls


async def test_the_consumer_reads_the_topic(
    embedded_broker: EmbeddedBroker, unique_prefix: str, tmp_path: Path, changes: list[dict[str, Any]]
) -> None:
    """From its beginning, as a group of its own; started again, it takes nothing twice."""
    settings = make_settings(embedded_broker.bootstrap_servers, "redis://127.0.0.1:1/0", unique_prefix)
    await asyncio.to_thread(create_topics, settings, 1, 1)
    topic = settings.topic("segment-changes")
    async with AIOKafkaProducer(bootstrap_servers=embedded_broker.bootstrap_servers) as producer:
        for change in changes:
            await producer.send_and_wait(topic, json.dumps(change).encode(), key=b"c", partition=0)
    path = tmp_path / "calls.db"

    def taken() -> int:
        if not path.exists():
            return 0
        with sqlite3.connect(path) as database:
            tables = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'taken'").fetchone()
            return int(database.execute("SELECT count(*) FROM taken").fetchone()[0]) if tables[0] else 0

    running = asyncio.create_task(
        run(embedded_broker.bootstrap_servers, topic, f"{unique_prefix}calls", str(path))
    )
    async with asyncio.timeout(WAIT_S):
        while taken() < len(changes):
            assert not running.done(), running.exception()
            await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert taken() == len(changes)
