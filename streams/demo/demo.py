"""The demo: a real data set through the real worker, on an embedded broker and Redis, and what came of it.

Nothing is taken from the environment's settings: the demo brings its own services and topics, and fits its own model
unless it is given one.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final, cast

import orjson
from aiokafka.errors import KafkaError

from enrichment.days import day_of
from schemas.dead_letters import (
    EXCEPTION_HEADER,
    MESSAGE_HEADER,
    OFFSET_HEADER,
    PARTITION_HEADER,
    TOPIC_HEADER,
)
from schemas.documents import Document, TriggerDocument
from schemas.timestamps import parse_timestamp
from schemas.topics import (
    CUSTOMER_PROFILES,
    DEAD_LETTERS,
    INPUT_TOPICS,
    REACTIVATION_TRIGGERS,
    SEGMENT_CHANGES,
    InputTopic,
)
from streams.checkpoint import Checkpoint
from streams.console.progress import Report, reporting
from streams.console.refusals import Example, Refusals
from streams.demo.embedded import EmbeddedBroker, EmbeddedRedis, OwnedProcess, free_port
from streams.demo.fitting import CUT, fit_demo_model
from streams.demo.report import Compared, DeadLetter, Published, Streamed, print_report
from streams.errors import EbbtideError, one_line
from streams.kafka.clients import new_writer
from streams.kafka.log_reader import read_to_end
from streams.kafka.partitioning import default_partition
from streams.kafka.topics import create_topics
from streams.replay.fared import how_they_fared
from streams.replay.replay import Replayed, replay
from streams.reports.overview_page import write_overview
from streams.settings import PREFIX, Settings
from streams.state.keys import PartitionKeys
from streams.state.redis_client import connect
from streams.state.store import StateStore

PARTITIONS: Final = 4
POLL_S: Final = 0.25
STALL_TIMEOUT_S: Final = 60.0
"""The worker may take as long as it needs, but not stand still for this long."""
STOP_TIMEOUT_S: Final = 20.0
SEND_TIMEOUT_S: Final = 30.0
_FILE: Final = "demo_data/{}.jsonl.gz"

Events = list[tuple[InputTopic, int, bytes, bytes]]
"""(topic, partition, key, value)."""


def run_demo(
    model: Path | None = None,
    html: Path | None = None,
    refusals: Refusals | None = None,
    percent_of_households: int = 100,
) -> int:
    """Run the demo on a share of its households; gives the exit code: 0 if the stream and replay agree.

    1. Fit a model to what lies before the cut, unless a model file is given.
    2. Start a broker and Redis, and create the topics; produce the events.
    3. Run the worker, as `ebbtide run` does, until nothing is left to do; tell it to stop.
    4. Read back what it published, and replay the same events without broker and Redis.
    5. Print tables, and whether the two agree; write the page, if there is to be one.

    Records that the worker refused are counted in `refusals`.

    Raises:
        EbbtideError: something did not start, stood still, or failed; one line says what.
        EmbeddedServiceError: the broker or Redis is not installed or did not start.
    """
    events = load_events(percent_of_households)
    with tempfile.TemporaryDirectory(prefix="ebbtide-demo-") as folder:
        fitted = None
        if model is None:  # 1
            model = Path(folder) / "demo-model.yaml"
            with reporting("calibrate") as report:
                report(0, 1)
                fitted = fit_demo_model(((topic, value) for topic, _, _, value in events), model)
                report(1, 1)
        return _stream_and_compare(events, model, fitted, html, refusals)


def _stream_and_compare(
    events: Events, model: Path, fitted: Document | None, html: Path | None, refusals: Refusals | None
) -> int:
    with EmbeddedBroker() as broker, EmbeddedRedis() as redis:  # 2
        settings = demo_settings(broker.bootstrap_servers, redis.url, model)
        create_topics(settings, PARTITIONS, 1)
        with reporting("produce") as report:
            asyncio.run(produce(settings, events, report))
        with running_worker(settings) as worker, reporting("stream") as report:  # 3
            streamed = asyncio.run(wait_until_done(settings, worker, events, report))
        published = asyncio.run(read_published(settings))  # 4
    rules = settings.load_model()
    with reporting("replay, to compare") as report:
        replayed = replay(
            ((topic, value) for topic, _, _, value in events),
            rules,
            horizons=settings.horizons,
            report=report,
        )
    compared = compare_with_replay(published, replayed, streamed.midnight_days)
    cut_day = day_of(parse_timestamp(CUT)) if fitted is not None else 0
    fared = [
        each
        for each in how_they_fared(
            cast("list[TriggerDocument]", published.triggers), replayed.customers, replayed.end_us
        )
        if each.day >= cut_day
    ]
    print_report(published, streamed, compared, Counter(topic for topic, *_ in events), fared, fitted)  # 5
    if html is not None:
        write_overview(html, published.changes, published.profiles, fared, rules, replayed.end_us)
    if refusals is not None:
        count_refused(published, events, refusals)
    return 0 if compared.is_equal else 1


def demo_settings(bootstrap_servers: str, redis_url: str, model: Path | None = None) -> Settings:
    """Every setting's default, but for what the embedded services and events of the past need."""
    defaults: dict[str, Any] = {name: field.default for name, field in Settings.model_fields.items()}
    own: dict[str, Any] = {
        "kafka_bootstrap_servers": bootstrap_servers,
        "redis_url": redis_url,
        "processing_guarantee": "at_least_once",
        "clock": "event",
        "allow_create_time": True,
        "web_port": free_port(),
        "model": model,
        "erasure_key": secrets.token_hex(16),  # for this demo alone, as are its broker and its Redis
    }
    return Settings(**{**defaults, **own})


def load_events(percent_of_households: int = 100) -> Events:
    """The bundled events in the order of their files, each with its partition."""
    events: Events = []
    for topic in INPUT_TOPICS:
        for value in _lines(resources.files("streams") / _FILE.format(topic)):
            key = str(orjson.loads(value)["customer_id"]).encode()
            if zlib.crc32(key) % 100 < percent_of_households:
                events.append((topic, default_partition(key, PARTITIONS), key, value))
    return events


def bundled_lines() -> Iterator[tuple[str, int, bytes]]:
    """Each bundled event with its file and its line in it."""
    for topic in INPUT_TOPICS:
        file = _FILE.format(topic)
        for number, value in enumerate(_lines(resources.files("streams") / file), start=1):
            yield f"streams/{file}", number, value


def _lines(file: Traversable) -> Iterator[bytes]:
    import gzip

    with file.open("rb") as packed, gzip.open(packed) as lines:
        for line in lines:
            yield line.rstrip(b"\n")


async def produce(settings: Settings, events: Events, report: Report) -> None:
    """Send the events to their topics, and wait until the broker has them all."""
    producer = new_writer(settings, acks="all", linger_ms=20, max_batch_size=262_144)
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await producer.start()
        sent: list[Any] = []
        for number, (topic, partition, key, value) in enumerate(events, start=1):
            sent.append(await producer.send(settings.topic(topic), value, key, partition))
            if number % 5_000 == 0 or number == len(events):
                await asyncio.wait_for(asyncio.gather(*sent), SEND_TIMEOUT_S)
                sent.clear()
                report(number, len(events))
    except (KafkaError, TimeoutError) as error:
        raise EbbtideError(f"the embedded broker did not take the events: {one_line(error)}") from error
    finally:
        await producer.stop()


@contextmanager
def running_worker(settings: Settings) -> Iterator[OwnedProcess]:
    """`ebbtide run` as a process of its own; it is told to stop at the end, and must end with exit code 0.

    Where something fails, the end of its log goes to stderr.
    """
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    with tempfile.TemporaryDirectory(prefix="ebbtide-demo-") as folder:
        worker = OwnedProcess(
            [sys.executable, "-m", "streams", "run"],
            log_path=Path(folder) / "worker.log",
            cwd=Path(__file__).parents[2],  # where `-m streams` can only mean these
            environment={**kept, **settings.as_environment()},
            stop_timeout_s=STOP_TIMEOUT_S,
        )
        try:
            yield worker
        except EbbtideError:
            worker.stop()
            print(f"The worker's log ends with:\n{worker.log_tail()}", file=sys.stderr)
            raise
        finally:
            worker.stop()


async def wait_until_done(
    settings: Settings, worker: OwnedProcess, events: Events, report: Report
) -> Streamed:
    """Wait until every record is in Redis' states and nobody is due by their partition's last midnight.

    Raises:
        EbbtideError: the worker ended, or nothing moved for `STALL_TIMEOUT_S` seconds.
    """
    ends: dict[int, Counter[InputTopic]] = {partition: Counter() for partition in range(PARTITIONS)}
    for topic, partition, _, _ in events:
        ends[partition][topic] += 1
    model, erasure_keys = settings.load_model(), settings.erasure_keys
    started_s, moved_s, moved = 0.0, time.monotonic(), [""] * PARTITIONS
    async with connect(settings) as redis:
        stores = [StateStore(redis, PartitionKeys.of(settings, p), model, erasure_keys) for p in ends]
        while True:
            checkpoints = [
                stored.checkpoint
                for store in stores
                if (stored := await store.stored_checkpoint()) is not None
            ]
            now_s = time.monotonic()
            started_s = started_s or (now_s if checkpoints else 0.0)
            report(sum(sum(checkpoint.offsets.values()) for checkpoint in checkpoints), len(events))
            if len(checkpoints) == PARTITIONS and await _is_done(stores, checkpoints, ends):
                midnight_days = {
                    partition: checkpoint.midnight_day for partition, checkpoint in enumerate(checkpoints)
                }
                return Streamed(midnight_days, now_s - started_s)
            if (now := [checkpoint.token for checkpoint in checkpoints]) != moved:
                moved_s, moved = now_s, now
            if not worker.is_running():
                raise EbbtideError("the worker ended before its work was done")
            if now_s - moved_s > STALL_TIMEOUT_S:
                raise EbbtideError(f"the worker stood still for {STALL_TIMEOUT_S:g} s")
            await asyncio.sleep(POLL_S)


async def _is_done(
    stores: Sequence[StateStore],
    checkpoints: Sequence[Checkpoint],
    ends: Mapping[int, Mapping[InputTopic, int]],
) -> bool:
    """Whether all records are taken and all midnights so far passed, by everyone whom they concern."""
    for partition, (store, checkpoint) in enumerate(zip(stores, checkpoints, strict=True)):
        if any(checkpoint.offsets[topic] < ends[partition].get(topic, 0) for topic in INPUT_TOPICS):
            return False
        if await store.due(checkpoint.midnight_day, 0, 1):
            return False
    return True


async def read_published(settings: Settings) -> Published:
    """Read the output topics from beginning to end; what at-least-once repeated is dropped by its id.

    Changes and triggers come in the order of their time, so that two runs tell the same.
    """
    published = Published()
    changes: dict[str, dict[str, Any]] = {}
    triggers: dict[str, dict[str, Any]] = {}
    profiles: dict[str, bytes | None] = {}
    letters: dict[tuple[str, str, str], DeadLetter] = {}
    names = (SEGMENT_CHANGES, REACTIVATION_TRIGGERS, CUSTOMER_PROFILES, DEAD_LETTERS)
    async for record in read_to_end(settings, names):
        if record.topic == settings.topic(CUSTOMER_PROFILES):
            profiles[record.key.decode()] = record.value
        elif record.topic == settings.topic(DEAD_LETTERS):
            said = {name: value.decode() for name, value in record.headers}
            place = said[TOPIC_HEADER], said[PARTITION_HEADER], said[OFFSET_HEADER]
            refused = said[EXCEPTION_HEADER], said[MESSAGE_HEADER], record.value
            published.repeats += place in letters
            letters.setdefault(place, refused)
        elif record.topic == settings.topic(SEGMENT_CHANGES):
            change = orjson.loads(record.value)
            published.repeats += change["change_id"] in changes
            changes.setdefault(change["change_id"], change)
        else:
            trigger = orjson.loads(record.value)
            published.repeats += trigger["trigger_id"] in triggers
            triggers.setdefault(trigger["trigger_id"], trigger)
    published.dead_letters = list(letters.values())
    published.changes = sorted(changes.values(), key=lambda c: (c["as_of"], c["customer_id"], c["sequence"]))
    published.triggers = sorted(triggers.values(), key=lambda t: (t["as_of"], t["customer_id"]))
    published.profiles = [orjson.loads(value) for value in profiles.values() if value is not None]
    return published


def count_refused(published: Published, events: Events, refusals: Refusals) -> None:
    """Count the dead letters that were read back, each with its line in the bundled files."""
    refusals.read = len(events)
    refusals.accepted = len(events) - len(published.dead_letters)
    if not published.dead_letters:
        return
    line_of = {value: (file, number) for file, number, value in bundled_lines()}
    for reason, message, value in published.dead_letters:
        refusals.add(reason, Example(*line_of[value], message))


def compare_with_replay(
    published: Published, replayed: Replayed, midnight_days: Mapping[int, int]
) -> Compared:
    """Compare the changes as multisets, without their ids.

    A partition's time ends with the day of its last midnight; replay's, being one partition, may go on.
    """
    streamed = Counter(map(_without_id, published.changes))
    expected: Counter[bytes] = Counter()
    beyond = 0
    for change in replayed.results.changes:
        last_day = midnight_days[default_partition(str(change["customer_id"]).encode(), PARTITIONS)]
        if day_of(parse_timestamp(str(change["as_of"]))) > last_day:
            beyond += 1
        else:
            expected[_without_id(change)] += 1
    return Compared(
        equal=(streamed & expected).total(),
        only_streamed=(streamed - expected).total(),
        only_replayed=(expected - streamed).total(),
        beyond=beyond,
    )


def _without_id(change: Mapping[str, Any]) -> bytes:
    rest = {name: value for name, value in change.items() if name != "change_id"}
    return orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)
