"""Replay: the same events and the same model give the same bytes, and the five files that the contract names."""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from ebbtide.testing.records import DEFAULT_MODEL
from enrichment.customer.validation import Horizons
from enrichment.model import Model, load_model
from schemas.changes import SegmentChange
from schemas.dead_letters import DeadLetterLine
from schemas.profiles import DIMENSIONS, CustomerProfile
from schemas.timestamps import parse_timestamp
from schemas.triggers import ReactivationTrigger
from streams.cli.commands import main
from streams.errors import EbbtideError
from streams.replay.files import run_replay
from tests.enrichment.driver import SEEDED_MODEL
from tests.once import Once
from tests.oracles.recount import end_us, read_log, recount, time_us
from tests.oracles.seeded_log import TOPICS, make_log, write_log

Document = dict[str, Any]
Lines = dict[str, list[bytes]]

OUTPUTS: dict[str, type[BaseModel]] = {
    "segment-changes": SegmentChange,
    "reactivation-triggers": ReactivationTrigger,
    "customer-profiles": CustomerProfile,
    "dead-letters": DeadLetterLine,
}
DEMO = resources.files("streams").joinpath("demo_data")


class Replayed(NamedTuple):
    """What one replay wrote: each file's bytes, its lines as documents, and the summary."""

    files: dict[str, bytes]
    summary: Document

    def documents(self, name: str) -> list[Document]:
        """The lines of one file."""
        return [json.loads(line) for line in self.files[name].splitlines()]

    @property
    def same_everywhere(self) -> tuple[dict[str, bytes], Document]:
        """All but what depends on the machine, and on how records lie in files."""
        placeless = [{**line, "file": None, "line": None} for line in self.documents("dead-letters")]
        files = {**self.files, "dead-letters": b"".join(json.dumps(line).encode() for line in placeless)}
        return files, {**self.summary, "events_per_second": None}


def replay_lines(
    lines: Lines, folder: Path, model: Model, until: str | None = None, processes: int | None = None
) -> Replayed:
    """Replay lines from files: of each topic one plain and one compressed."""
    folder.mkdir()
    paths: dict[str, list[Path]] = {}
    for topic in TOPICS:
        of_topic = lines.get(topic, [])
        half = len(of_topic) // 2
        plain, packed = folder / f"{topic}-1.jsonl", folder / f"{topic}-2.jsonl.gz"
        plain.write_bytes(b"".join(line + b"\n" for line in of_topic[:half]))
        packed.write_bytes(gzip.compress(b"".join(line + b"\n" for line in of_topic[half:]), compresslevel=1))
        paths[topic] = [plain, packed]
    until_us = None if until is None else parse_timestamp(until)
    out = folder / "out"
    of_topics = paths["purchases"], paths["engagements"], paths["consents"]
    written = run_replay(*of_topics, out, model, until_us, processes=processes)
    assert {path.name for path in out.iterdir()} == {*(f"{name}.jsonl" for name in OUTPUTS), "summary.json"}
    files = {name: (out / f"{name}.jsonl").read_bytes() for name in OUTPUTS}
    summary = json.loads((out / "summary.json").read_bytes())
    assert summary == written
    return Replayed(files, summary)


def shuffled(lines: Lines, seed: int) -> Lines:
    """The same lines in another order."""
    rng = random.Random(seed)
    return {topic: rng.sample(of_topic, len(of_topic)) for topic, of_topic in lines.items()}


def jsonl(records: Iterable[Document]) -> list[bytes]:
    """Records as lines."""
    return [json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() for record in records]


def recounted(lines: Lines, document: Document, until: str | None = None) -> dict[str, Document]:
    """The oracle's aggregates of every customer."""
    records = {topic: [json.loads(line) for line in lines[topic]] for topic in TOPICS}
    log = read_log(records["purchases"], records["engagements"], records["consents"])
    return recount(log, document, until)


def aggregates(replayed: Replayed) -> dict[str, Document]:
    """Every customer's aggregates as written."""
    profiles = replayed.documents("customer-profiles")
    return {profile["customer_id"]: profile["aggregates"] for profile in profiles}


def demo_lines(every: int) -> Lines:
    """The demo's own data, of one household in so many."""
    lines: Lines = {}
    for topic in TOPICS:
        whole = gzip.decompress(DEMO.joinpath(f"{topic}.jsonl.gz").read_bytes()).splitlines()
        chosen = [(int.from_bytes(json.loads(line)["customer_id"].encode(), "big"), line) for line in whole]
        lines[topic] = [line for number, line in chosen if number % every == 0]
    return lines


def of_few(lines: Lines, customers: int) -> Lines:
    """The lines of so many of the customers, and those that are of nobody."""

    def customer_of(line: bytes) -> str | None:
        try:
            return str(json.loads(line)["customer_id"])
        except (ValueError, KeyError, TypeError):
            return None

    everyone = {customer_of(line) for of_topic in lines.values() for line in of_topic} - {None}
    chosen = {None, *sorted(filter(None, everyone))[:customers]}
    return {topic: [line for line in lines[topic] if customer_of(line) in chosen] for topic in lines}


@pytest.fixture(scope="module")
def every(pytestconfig: pytest.Config) -> int:
    """One household of the demo in so many; with `--deep`, all of them."""
    return 1 if pytestconfig.getoption("--deep") else 4


@pytest.fixture(scope="module")
def demo(once: Once, tmp_path_factory: pytest.TempPathFactory, every: int) -> Replayed:
    """These households, replayed once."""
    folder = tmp_path_factory.mktemp("demo") / "all"
    return once("replayed demo", lambda: replay_lines(demo_lines(every), folder, load_model()))


@pytest.fixture(scope="module")
def seeded_lines(random_seed: int) -> Lines:
    """A log with every difficulty, and some lines that are none of ours."""
    log = make_log(random_seed, customers=15, days=600, events=700)
    lines = {topic: jsonl(log[topic]) for topic in TOPICS}
    late = {**log["purchases"][0], "event_id": "x", "currency": "GBP"}
    lines["purchases"] += [b"", b"{", b"null", b'{"event_id": 1}', b"\xff\xfe", *jsonl([late]), b"{"]
    lines["engagements"] += jsonl([{**log["engagements"][0], "event_id": "x", "kind": "danced"}])
    lines["consents"] += jsonl([{**log["consents"][0], "event_id": "x", "kind": "merge"}])
    return lines


@pytest.fixture(scope="module")
def seeded(seeded_lines: Lines, once: Once, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """That log, replayed once, by as many processes as there are processors."""
    folder = tmp_path_factory.mktemp("seeded") / "all"
    return once("replayed seeded log", lambda: replay_lines(seeded_lines, folder, seeded_model()))


def seeded_model() -> Model:
    return Model.model_validate(SEEDED_MODEL)


@pytest.fixture(params=["demo", "seeded"])
def replayed(request: pytest.FixtureRequest) -> Replayed:
    """Each of the two."""
    found: Replayed = request.getfixturevalue(request.param)
    return found


def test_a_seeded_log_gives_the_same_bytes_again_and_shuffled(
    seeded: Replayed, seeded_lines: Lines, tmp_path: Path, random_seed: int
) -> None:
    """Refunds, updates, three currencies, lateness, denials, erasures and bad lines included."""
    again = replay_lines(seeded_lines, tmp_path / "again", seeded_model(), processes=1)
    mixed = shuffled(seeded_lines, random_seed)
    other_order = replay_lines(mixed, tmp_path / "other", seeded_model(), processes=1)
    assert seeded.same_everywhere == again.same_everywhere == other_order.same_everywhere


@pytest.mark.deep
def test_the_demo_gives_the_same_bytes_again_and_shuffled(
    demo: Replayed, tmp_path: Path, random_seed: int
) -> None:
    """On one household in twenty; and whatever the others do, each household's lines are the same."""
    some = demo_lines(20)
    first = replay_lines(some, tmp_path / "first", load_model())
    second = replay_lines(shuffled(some, random_seed), tmp_path / "second", load_model())
    assert first.same_everywhere == second.same_everywhere
    households = set(aggregates(first))
    assert len(households) > 100
    for name in ("segment-changes", "reactivation-triggers"):
        of_all = [line for line in demo.documents(name) if line["customer_id"] in households]
        last = max(line["as_of"] for line in first.documents(name))
        assert [line for line in of_all if line["as_of"] <= last] == first.documents(name)


@pytest.mark.parametrize("until", [None, "2024-06-01T00:00:00Z"])
def test_processes_that_share_the_work_write_the_same_bytes(
    seeded_lines: Lines, tmp_path: Path, until: str | None
) -> None:
    """More of them than there are customers; what is counted is the same too."""
    few = of_few(seeded_lines, customers=3)
    alone = replay_lines(few, tmp_path / "alone", seeded_model(), until, processes=1)
    shared = replay_lines(few, tmp_path / "shared", seeded_model(), until, processes=5)
    assert shared.same_everywhere == alone.same_everywhere
    assert all(lines for name, lines in alone.files.items() if name != "reactivation-triggers")


class Deadly(Horizons):
    """Ends the process that is given it."""

    def __reduce__(self) -> Any:
        return os._exit, (9,)


class Broken(Horizons):
    """Fails where it is used."""

    def __reduce__(self) -> Any:
        return str, ("no horizons",)


@pytest.mark.parametrize(
    ("horizons", "error", "said"),
    [(Deadly(), EbbtideError, r"exit code 9.*--processes 1"), (Broken(), AttributeError, "no attribute")],
)
def test_a_process_that_fails_ends_the_replay(
    seeded_lines: Lines, tmp_path: Path, horizons: Horizons, error: type[Exception], said: str
) -> None:
    """With its error, and no half of a file."""
    (tmp_path / "purchases.jsonl").write_bytes(b"\n".join(seeded_lines["purchases"]))
    out, paths = tmp_path / "out", [tmp_path / "purchases.jsonl"]
    with pytest.raises(error, match=said):
        run_replay(paths, [], [], out, seeded_model(), None, horizons, processes=2)
    assert list(out.iterdir()) == []


def _hear_interrupts() -> None:
    """What a shell starts in the background ignores them, and so would what the tests start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_a_replay_that_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    """An interrupt, as a terminal sends it to all, ends it quietly; one killed leaves its folder, and no process.

    What processes that were just being started say of a parent that was killed is Python's.
    """
    for topic in TOPICS:
        (tmp_path / f"{topic}.jsonl").write_bytes(b"\n".join(demo_lines(1)[topic]))
    options = [option for topic in TOPICS for option in (f"--{topic}", str(tmp_path / f"{topic}.jsonl"))]
    command = [sys.executable, "-m", "streams", "replay", *options]
    command += ["--out", str(tmp_path / "out"), "--processes", "2"]
    replaying = subprocess.Popen(
        command,
        start_new_session=True,
        stderr=subprocess.PIPE,
        preexec_fn=_hear_interrupts,
        env={**os.environ, "EBBTIDE_CORE": "python"},  # the compiled one has threads
    )
    deadline_s = time.monotonic() + 60
    while len(shares := list(tmp_path.glob("out/.replay-*/*/share"))) < 2:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    time.sleep(0.5)  # by then the others are starting, or have begun
    if number == signal.SIGINT:
        os.killpg(replaying.pid, number)
    else:
        replaying.kill()
    _, said = replaying.communicate(timeout=120)  # returns when nobody has stderr any more
    assert number == signal.SIGKILL or b"Traceback" not in said
    assert replaying.returncode == (130 if number == signal.SIGINT else -number)
    assert [share.exists() for share in shares] == [number == signal.SIGKILL] * 2


def test_the_demos_aggregates_equal_a_recount_for_all_households(demo: Replayed, every: int) -> None:
    """Oracle: pandas, straight from the text of the contract."""
    assert aggregates(demo) == recounted(demo_lines(every), DEFAULT_MODEL)
    assert demo.summary["customers"] > 2_000 / every


def test_a_seeded_logs_aggregates_equal_a_recount_for_all_customers(
    seeded: Replayed, seeded_lines: Lines, random_seed: int
) -> None:
    """Oracle: pandas, on the records that are well-formed."""
    log = make_log(random_seed, customers=15, days=600, events=700)
    assert aggregates(seeded) == recount(
        read_log(log["purchases"], log["engagements"], log["consents"]), SEEDED_MODEL
    )


def test_in_the_demo_households_slip_by_time_in_at_least_40_weeks(demo: Replayed) -> None:
    """Silence is noticed all year round."""
    weeks = {
        date.fromisoformat(change["as_of"][:10]).isocalendar()[:2]
        for change in demo.documents("segment-changes")
        if change["direction"] == "downgrade" and change["reason"]["trigger"] == "time"
    }
    assert len(weeks) >= 40


def test_every_line_is_as_the_schemas_say(replayed: Replayed) -> None:
    """Every key in its order, of its type."""
    for name, schema in OUTPUTS.items():
        for line in replayed.files[name].splitlines():
            document = json.loads(line)
            assert list(schema.model_validate_json(line).model_dump()) == list(document)


def test_lines_are_sorted_as_the_contract_says(replayed: Replayed) -> None:
    """By `as_of`, customer and sequence; profiles by id; dead letters by topic and bytes."""

    def place(line: Document) -> tuple[int, str, int]:
        return parse_timestamp(line["as_of"]), line["customer_id"], line.get("sequence", 0)

    for name in ("segment-changes", "reactivation-triggers"):
        places = [place(line) for line in replayed.documents(name)]
        assert places == sorted(places)
        assert places
    ids = [profile["customer_id"] for profile in replayed.documents("customer-profiles")]
    assert ids == sorted(set(ids))
    dead = [
        (line["topic"], base64.b64decode(line["value_base64"])) for line in replayed.documents("dead-letters")
    ]
    assert dead == sorted(dead)


def test_sequences_have_no_gap_and_each_previous_is_the_last_current(replayed: Replayed) -> None:
    """In every life from 1, and the profile stands where the last change led."""
    sequences: Counter[tuple[str, int]] = Counter()
    current: dict[tuple[str, int, str], str | None] = {}
    ids = set()
    for change in replayed.documents("segment-changes"):
        life_of = (change["customer_id"], change["life"])
        in_dimension = (*life_of, change["dimension"])
        sequences[life_of] += 1
        assert change["sequence"] == sequences[life_of]
        assert change["previous"] == current.get(in_dimension)
        current[in_dimension] = change["current"]
        ids.add(change["change_id"])
    assert len(ids) == sum(sequences.values())
    last_life = dict(sorted(sequences))
    for profile in replayed.documents("customer-profiles"):
        customer = profile["customer_id"]
        life = last_life.get(customer, 0)
        standing = {dimension: current.get((customer, life, dimension)) for dimension in DIMENSIONS}
        if sequences[customer, life] == profile["sequence"]:
            assert profile["standing"] == standing
        else:
            assert profile["sequence"] == 0  # a new life of which nothing was decided yet


def test_the_summary_counts_what_was_written(replayed: Replayed) -> None:
    """Changes by dimension, direction and trigger; standings; events by topic."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for change in replayed.documents("segment-changes"):
        counted[change["dimension"], change["direction"], change["reason"]["trigger"]] += 1
    summed = {
        (dimension, direction, trigger): count
        for dimension, by_direction in replayed.summary["changes"].items()
        for direction, by_trigger in by_direction.items()
        for trigger, count in by_trigger.items()
    }
    assert summed == counted
    profiles = replayed.documents("customer-profiles")
    assert replayed.summary["customers"] == len(profiles)
    for dimension in DIMENSIONS:
        held = Counter(profile["standing"][dimension] or "none" for profile in profiles)
        assert replayed.summary["standings"][dimension] == held
    events = replayed.summary["events"]
    assert set(events) == set(TOPICS)
    dead = Counter(line["topic"] for line in replayed.documents("dead-letters"))
    assert {topic: events[topic]["dead_letter"] for topic in TOPICS} == {
        topic: dead[topic] for topic in TOPICS
    }


def test_without_an_end_every_profile_is_as_of_the_logs_last_event(demo: Replayed, every: int) -> None:
    """One time for all."""
    times = {json.loads(line)["occurred_at"] for of_topic in demo_lines(every).values() for line in of_topic}
    assert {profile["as_of"] for profile in demo.documents("customer-profiles")} == {max(times)}


def test_bad_lines_are_dead_letters_with_their_own_bytes(seeded: Replayed) -> None:
    """Reason, the field's path, and the original, one line each; the others go on."""
    dead = [
        (line["topic"], line["reason"], base64.b64decode(line["value_base64"]))
        for line in seeded.documents("dead-letters")
    ]
    assert Counter((topic, reason) for topic, reason, _ in dead) == {
        ("purchases", "Malformed"): 6,
        ("purchases", "UnknownCurrency"): 1,
        ("engagements", "UnknownKind"): 1,
        ("consents", "Malformed"): 1,
    }
    assert {b"", b"{", b"null", b"\xff\xfe"} <= {value for _, _, value in dead}
    for line in seeded.documents("dead-letters"):
        packed = Path(line["file"]).read_bytes()
        content = gzip.decompress(packed) if line["file"].endswith(".gz") else packed
        assert content.split(b"\n")[line["line"] - 1] == base64.b64decode(line["value_base64"])
    messages = {line["message"].split(":")[0] for line in seeded.documents("dead-letters")}
    assert {"$", "kind", "currency"} <= messages


def test_events_after_the_end_are_ignored_and_counted(
    seeded_lines: Lines, tmp_path: Path, random_seed: int
) -> None:
    """The rest is as if they were not there; profiles are as of the end, also where silence lasts until then."""
    until = "2024-03-01T10:30:00Z"
    until_us = parse_timestamp(until)
    log = make_log(random_seed, customers=15, days=600, events=700)
    lines = {topic: jsonl(log[topic]) for topic in TOPICS}
    before = {
        topic: [line for line in of_topic if parse_timestamp(json.loads(line)["occurred_at"]) <= until_us]
        for topic, of_topic in lines.items()
    }
    cut = replay_lines(lines, tmp_path / "cut", seeded_model(), until)
    never_there = replay_lines(before, tmp_path / "before", seeded_model(), until)
    assert cut.files == never_there.files
    assert {profile["as_of"] for profile in cut.documents("customer-profiles")} == {until}
    assert aggregates(cut) == recounted(lines, SEEDED_MODEL, until)
    for topic in TOPICS:
        assert cut.summary["events"][topic]["after_until"] == len(lines[topic]) - len(before[topic]) > 0
    quiet = replay_lines(before, tmp_path / "quiet", seeded_model(), "2026-01-01T00:00:00Z")
    assert quiet.summary["changes"]["lifecycle"]["downgrade"]["time"] > 0
    assert quiet.files["segment-changes"].startswith(cut.files["segment-changes"])


def orders(*days: int) -> Lines:
    """One order on each of these days, counted from 2020-01-01."""
    records = [
        {
            "event_id": f"e{number}",
            "customer_id": f"c{number % 2}",
            "occurred_at": f"{date(2020, 1, 1) + timedelta(day)}T00:00:00Z",
            "kind": "order",
            "order_id": f"o{number}",
            "currency": "USD",
            "total": "10",
        }
        for number, day in enumerate(days)
    ]
    return {"purchases": jsonl(records)}


def test_a_record_more_than_400_days_after_all_before_it_is_from_the_future(tmp_path: Path) -> None:
    """400 days are silence; 401 are another clock's, of which the one with most purchases is the log's.

    Also for what follows; with an end given, none is from the future.
    """
    silence = replay_lines(orders(0, 400), tmp_path / "silence", load_model())
    assert silence.summary["events"]["purchases"]["accepted"] == 2
    future = replay_lines(orders(0, 5, 10, 411, 420), tmp_path / "future", load_model())
    assert future.summary["events"]["purchases"]["dead_letter"] == 2
    reasons = {line["reason"] for line in future.documents("dead-letters")}
    assert reasons == {"FromTheFuture"}
    assert {profile["as_of"] for profile in future.documents("customer-profiles")} == {"2020-01-11T00:00:00Z"}
    wanted = replay_lines(orders(0, 10, 411), tmp_path / "wanted", load_model(), "2021-06-01T00:00:00Z")
    assert wanted.summary["events"]["purchases"]["accepted"] == 3


def test_records_of_an_earlier_clock_are_accepted(tmp_path: Path) -> None:
    """One record of 1970 makes no other a `FromTheFuture`; of pieces with as many purchases the latest is the log."""
    early = replay_lines(orders(-18_262, 0, 10), tmp_path / "early", load_model())
    assert early.summary["events"]["purchases"]["accepted"] == 3
    assert early.summary["as_of"] == "2020-01-11T00:00:00Z"
    equal = replay_lines(orders(0, 10, 411, 420), tmp_path / "equal", load_model())
    assert equal.summary["events"]["purchases"]["accepted"] == 4


@pytest.mark.parametrize("sizes", [(3, 40, 8), (40, 3, 8), (3, 8, 40), (20, 20, 3)])
def test_of_a_log_in_pieces_the_aggregates_are_those_of_a_recount(
    sizes: tuple[int, ...], tmp_path: Path, random_seed: int
) -> None:
    """Pieces of 1971, 2010 and 2030, of customers of their own; oracle: pandas, by the text of the contract."""
    whole: dict[str, list[Document]] = {topic: [] for topic in TOPICS}
    for at, (start, events) in enumerate(zip(("1971", "2010", "2030"), sizes, strict=True)):
        log = make_log(
            random_seed + at, customers=4, days=90, events=events, start=f"{start}-01-01T00:00:00Z"
        )
        for topic in TOPICS:
            whole[topic] += [{**line, "customer_id": f"{line['customer_id']}/{at}"} for line in log[topic]]
    lines = {topic: jsonl(whole[topic]) for topic in TOPICS}
    replayed = replay_lines(shuffled(lines, random_seed), tmp_path / "pieces", seeded_model())
    oracle = read_log(whole["purchases"], whole["engagements"], whole["consents"])
    assert aggregates(replayed) == recount(oracle, SEEDED_MODEL)
    future = {
        json.loads(base64.b64decode(line["value_base64"]))["event_id"]
        for line in replayed.documents("dead-letters")
    }
    last_us = end_us(oracle, None)
    later = {
        line["event_id"]
        for of_topic in whole.values()
        for line in of_topic
        if time_us(line["occurred_at"]) > last_us
    }
    assert future == later


def touches(*dates: str) -> list[bytes]:
    """One customer's mail opened on each of these dates."""
    return jsonl(
        {"event_id": on, "customer_id": "c", "occurred_at": f"{on}T00:00:00Z", "kind": "opened"}
        for on in dates
    )


def test_without_purchases_the_piece_with_most_records_is_the_log(tmp_path: Path) -> None:
    """Of equal ones the latest; where there is a purchase, its piece is the log, however many touches others have."""

    def refused(lines: Lines, name: str) -> int:
        replayed = replay_lines(lines, tmp_path / name, load_model())
        return len(replayed.documents("dead-letters"))

    assert refused({"engagements": touches("2020-01-01", "2020-01-02", "2024-01-01")}, "fewer") == 1
    assert refused({"engagements": touches("2020-01-01", "2024-01-01")}, "as many") == 0
    bought = {"engagements": touches("2020-01-01", "2020-01-02"), "purchases": orders(1_500)["purchases"]}
    assert refused(bought, "bought") == 0
    bought["engagements"] += touches("2028-01-01", "2028-01-02")
    assert refused(bought, "bought before") == 2


def test_no_events_give_five_files_of_nothing(tmp_path: Path) -> None:
    """An empty log is a log."""
    empty = replay_lines({}, tmp_path / "empty", load_model())
    assert set(empty.files.values()) == {b""}
    assert empty.summary["customers"] == 0


def test_a_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """It is not taken for an empty one."""
    with pytest.raises(OSError, match=r"none\.jsonl"):
        run_replay([tmp_path / "none.jsonl"], [], [], tmp_path / "out", load_model(), None)


PACKED = gzip.compress(bytes(random.Random(1).choices(b" \t\n", k=20_000)))
"""Blank lines: no profiles that could be refused, and records that are."""
BROKEN = {
    "cut off": (PACKED[:-20], "Compressed file ended before"),
    "cut off in its header": (PACKED[:5], "Compressed file ended before"),
    "not compressed": (b'{"event_id": "1"}\n', "Not a gzipped file"),
    "of another checksum": (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "CRC check failed"),
    "damaged": (PACKED[:10] + b"\xff" * 50 + PACKED[60:], "Error -3 while decompressing data"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize(
    "command",
    [
        ("replay", "--out", "{out}", "--purchases"),
        ("calibrate", "--out", "{out}", "--purchases"),
        ("audit", "--by", "region", "--profiles"),
        ("whatif", "--tier", "named=5%", "--profiles"),
    ],
    ids=lambda command: command[0],
)
def test_a_broken_compressed_file_is_one_line_with_its_name(
    command: tuple[str, ...],
    content: bytes,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 1, and not that of an interrupt; nothing is written."""
    path, out = tmp_path / "broken.jsonl.gz", tmp_path / "out"
    path.write_bytes(content)
    assert main([*(part.format(out=out) for part in command), str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ebbtide: error: {path}: cannot be decompressed: {message}")
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b" " * 3_000_000, ", line 1: longer than 1,048,576 bytes, so it is no record"),
        (b"\n" * 3_000_000, ": its 2,9"),
    ],
    ids=["one line", "many lines"],
)
def test_a_compressed_file_that_explodes_is_one_line_with_its_name(
    content: bytes,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether it is one line or many, no more of it is held than the limit that holds for batches too."""
    monkeypatch.setenv("EBBTIDE_DECOMPRESSED_MAX_BYTES", str(1_048_576))
    path, out = tmp_path / "bomb.jsonl.gz", tmp_path / "out"
    path.write_bytes(gzip.compress(content))
    assert main(["replay", "--out", str(out), "--purchases", str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ebbtide: error: {path}{message}")
    assert line.endswith("EBBTIDE_DECOMPRESSED_MAX_BYTES allows more")
    assert not out.exists()


def test_the_files_of_a_written_log_are_read_as_they_are(tmp_path: Path, random_seed: int) -> None:
    """Line ends of either kind, ids of any script; oracle: the recount of the same files."""
    log = make_log(random_seed, customers=3, days=60, events=60)
    for record in log["purchases"]:
        record["customer_id"] = f"顧客 {record['customer_id']} 🛒"
    paths = write_log(log, tmp_path)
    paths["purchases"].write_bytes(paths["purchases"].read_bytes().replace(b"\n", b"\r\n"))
    run_replay(
        [paths["purchases"]],
        [paths["engagements"]],
        [paths["consents"]],
        tmp_path / "out",
        seeded_model(),
        None,
    )
    lines = (tmp_path / "out" / "customer-profiles.jsonl").read_text("utf-8").splitlines()
    written = {profile["customer_id"]: profile["aggregates"] for profile in map(json.loads, lines)}
    assert written == recount(read_log(log["purchases"], log["engagements"], log["consents"]), SEEDED_MODEL)
