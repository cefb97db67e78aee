"""Stacks are counted by the stage that they are in, and a process is looked at where the system allows it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.profiling import OTHER, NoSamplesError, Stacks, sampling, stacks_of, stage_of, table_of

LOOP = "run (streams/app.py:40);_run_once (asyncio/base_events.py:1922);_run (asyncio/events.py:80)"
LINES = [
    f"{LOOP};_step (streams/worker/partition_task.py:3);process (enrichment/enricher.py:6);"
    "score (enrichment/scoring/scores.py:5) 6",
    f"{LOOP};_step (streams/worker/partition_task.py:3);decode (schemas/decode.py:9);__init__ (inspect.py:1) 3",
    f"{LOOP};send (aiokafka/conn.py:3) 1",
    f"{LOOP};getmany (aiokafka/consumer/consumer.py:3) 2",
    "_run_once (asyncio/base_events.py:1922) 8",
    "_bootstrap (threading.py:1002);_worker (concurrent/futures/thread.py:81) 500",
]


def test_a_stack_belongs_to_its_innermost_frame_with_a_stage() -> None:
    """What a library does on behalf of a stage is that stage's; the longest of several paths counts."""
    stages = [stage_of(stack) for stack in stacks_of(LINES)]
    assert stages == [
        "scores",
        "decode and check records",
        "produce, transactions, requests (aiokafka)",
        "fetch (aiokafka)",
        OTHER,
        None,
    ]


def test_a_table_shares_the_time_out_by_samples() -> None:
    """Threads that wait have no share."""
    table = table_of("Some", stacks_of(LINES), 200.0, "How.", "event")
    assert [tuple(row) for row in table.rows] == [
        (OTHER, "40%", 80.0),
        ("scores", "30%", 60.0),
        ("decode and check records", "15%", 30.0),
        ("fetch (aiokafka)", "10%", 20.0),
        ("produce, transactions, requests (aiokafka)", "5%", 10.0),
    ]


def test_a_process_is_looked_at() -> None:
    """Its stacks lead to where it is busy."""
    busy = (
        "import time\ndef work():\n    while time.monotonic() < end: pass\n"
        "print('busy', flush=True)\nend = time.monotonic() + 6\nwork()"
    )
    found = Stacks()
    process = subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"busy\n"
        with sampling(process.pid, found) as spy:
            spy.wait(60)
    except NoSamplesError as error:
        if "permission" in str(error).lower() or "root" in str(error).lower():
            pytest.skip(str(error))
        raise
    finally:
        process.kill()
        process.communicate()
    assert found
    assert any(frame.startswith("work (") for frame in max(found, key=found.__getitem__))


def test_what_cannot_be_looked_at_says_why() -> None:
    """A process that is gone has no stacks; the reason is py-spy's own."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with (
        pytest.raises(NoSamplesError, match=f"process {process.pid}: .*rror"),
        sampling(process.pid, Stacks()) as spy,
    ):
        spy.wait(60)
