"""What commands say at their end of the records that they refused, and when they fail by it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from streams.cli.commands import main
from streams.console.refusals import Example, Refusals
from streams.demo.demo import bundled_lines, count_refused, load_events
from streams.demo.report import Published
from streams.errors import EbbtideError
from streams.insight.profiles import export_profiles
from streams.state.keys import PartitionKeys
from tests.services import RedisService
from tests.streams.held_group import HeldGroup, hold_group
from tests.streams.some_profiles import profile, write_profiles

Document = dict[str, Any]


def order(number: int, **more: Any) -> Document:
    return {
        "event_id": f"e{number}",
        "customer_id": "c1",
        "occurred_at": f"2025-01-{number % 28 + 1:02}T12:00:00Z",
        "kind": "order",
        "order_id": f"o{number}",
        "currency": "USD",
        "total": "10.00",
        **more,
    }


def write(path: Path, records: Iterable[Document]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in records), encoding="utf-8")
    return path


def replay(path: Path, *options: str) -> int:
    return main(["replay", "--purchases", str(path), "--out", str(path.parent / "out"), *options])


MIXED = [
    order(1),
    order(2, currency="EUR"),
    order(3, total=3),
    order(4, total=4),
    order(5, total="10000000000"),
    order(6),
    order(7, kind="merge"),
    order(8, currency="GBP"),
    order(9, occurred_at="2035-01-01T00:00:00Z"),
]


def test_replay_tells_the_three_commonest_reasons_with_an_example_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first of each by file and line; reasons that are as common come by name, and the rest is counted."""
    path = write(tmp_path / "p.jsonl", MIXED)
    assert replay(path) == 0
    assert capsys.readouterr().err.splitlines()[-5:] == [
        "7 of 9 records were refused:",
        f"  3 Malformed, such as {path}:3: total: an amount is a decimal string, such as \"12.50\", never a number",
        f"  2 UnknownCurrency, such as {path}:2: currency: the model has no rate for EUR",
        f"  1 FromTheFuture, such as {path}:9: occurred_at: more than 400 days after the log's last record, "
        "2025-01-07T12:00:00Z; --until would take it",
        "  1 for other reasons",
    ]  # fmt: skip


def test_where_nothing_was_refused_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of how many records."""
    assert replay(write(tmp_path / "p.jsonl", [order(1), order(2)])) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "0 of 2 records were refused"


def test_where_none_is_accepted_replay_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, in one line; the dead letters are written, with file and line."""
    path = write(tmp_path / "p.jsonl", [order(1, currency="EUR"), order(2, total=2)])
    assert replay(path) == 1
    assert capsys.readouterr().err == (
        "ebbtide: error: no record was accepted: 2 of 2 records were refused: "
        f'1 Malformed ({path}:2: total: an amount is a decimal string, such as "12.50", never a number), '
        f"1 UnknownCurrency ({path}:1: currency: the model has no rate for EUR)\n"
    )
    letters = map(json.loads, (tmp_path / "out" / "dead-letters.jsonl").read_text().splitlines())
    assert sorted((letter["file"], letter["line"]) for letter in letters) == [(str(path), 1), (str(path), 2)]


def test_no_records_at_all_are_no_failure(tmp_path: Path) -> None:
    """Neither those that are later than the end that was asked for."""
    assert replay(write(tmp_path / "p.jsonl", [])) == 0
    assert replay(write(tmp_path / "p.jsonl", [order(1)]), "--until", "2024-01-01") == 0


@pytest.mark.parametrize(
    ("share", "code"), [("0", 1), ("0.77", 1), ("77%", 1), ("0.78", 0), ("78%", 0), ("1", 0)]
)
def test_a_share_of_refused_records_may_be_too_much(
    share: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seven of nine are 77.8%; what is after the end that was asked for is none of them."""
    path = write(tmp_path / "p.jsonl", MIXED)
    assert replay(path, "--fail-over-refused", share) == code
    if code:
        limit = f"{float(share.rstrip('%')) / (100 if '%' in share else 1):g}"
        expected = (
            f"ebbtide: error: 77.78% of the records were refused, more than --fail-over-refused {limit} "
        )
        assert capsys.readouterr().err.splitlines()[-1].startswith(expected)
    assert replay(path, "--fail-over-refused", "0.7", "--until", "2025-01-20") == 1


@pytest.mark.parametrize("share", ["-1", "1.5", "101%", "few", "1e-3", ""])
def test_a_share_is_from_0_to_1(share: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, in one line."""
    assert replay(write(tmp_path / "p.jsonl", MIXED), "--fail-over-refused", share) == 2
    assert "a share is " in capsys.readouterr().err


def test_processes_that_share_the_work_tell_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too late by their own customer's records: only the core can tell, and it knows file and line."""
    early = [
        order(number, occurred_at="2020-01-01T00:00:00Z", customer_id=f"c{number % 5}")
        for number in range(20)
    ]
    consents = [
        {
            "event_id": f"k{number}",
            "customer_id": f"c{number % 5}",
            "occurred_at": "2020-01-02T00:00:00Z",
            "kind": "consent",
            "purpose": f"{number}" * 64,
            "granted": True,
            "attributes": {"a": "x" * 60_000},
        }
        for number in range(5)
    ]
    filled = [
        order(100 + number, customer_id=f"c{number}", attributes={"b": "x" * 9_000}) for number in range(5)
    ]
    paths = write(tmp_path / "p.jsonl", [*early, *filled]), write(tmp_path / "k.jsonl", consents)
    told = []
    for processes in ("1", "3"):
        arguments = ["--purchases", str(paths[0]), "--consents", str(paths[1]), "--until", "2025-02-01"]
        assert main(["replay", *arguments, "--out", str(tmp_path / processes), "--processes", processes]) == 0
        told.append(capsys.readouterr().err.splitlines()[-2:])
    assert told[0] == told[1]
    assert told[0][0] == "5 of 30 records were refused:"
    assert told[0][1].startswith(
        f"  5 OutOfRange, such as {paths[0]}:21: attributes: the customer would hold"
    )
    letters = [(tmp_path / name / "dead-letters.jsonl").read_bytes() for name in ("1", "3")]
    assert letters[0] == letters[1]


@pytest.mark.parametrize("command", [("audit", "--by", "region"), ("whatif", "--tier", "named=50%")])
def test_commands_on_files_of_profiles_fail_by_one_bad_line_unless_some_are_allowed(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All bad lines are told: the first with its line, and the commonest reasons."""
    good = [profile(f"c{at}", "named", "low", region="a") for at in range(8)]
    path = write_profiles(tmp_path / "profiles.jsonl", [*good, {}, good[0]])
    arguments = [*command, "--profiles", str(path)]
    assert main(arguments) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"ebbtide: error: {path}, line 9: no profile: customer_id: Field required; ")
    assert output.err.endswith(
        "2 of 10 profiles were refused: "
        f"1 a customer again ({path}:10: customer_id: the customer of line 1 again), "
        f"1 customer_id: Field required ({path}:9: customer_id: Field required)\n"
    )
    assert main([*arguments, "--fail-over-refused", "10%"]) == 1
    assert "20.00% of the profiles were refused" in capsys.readouterr().err
    assert main([*arguments, "--fail-over-refused", "20%"]) == 0
    output = capsys.readouterr()
    assert output.out
    assert output.err.startswith("2 of 10 profiles were refused:\n")


@pytest.fixture
def damaged(redis_server: RedisService) -> HeldGroup:
    """A group of which one customer's state is of a later format, and one's is cut off."""
    group = hold_group(redis_server.url, "damaged-states", 1)

    async def damage() -> None:
        async with Redis.from_url(group.settings.redis_url) as redis:
            for customer_id, value in zip(
                sorted(group.partition_of), (b"\x07later", b"\x01cut"), strict=False
            ):
                keys = PartitionKeys.of(group.settings, group.partition_of[customer_id])
                await redis.set(keys.customer(customer_id), value)

    asyncio.run(damage())
    return group


def test_profiles_tells_of_states_that_cannot_be_read(
    damaged: HeldGroup, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are written; with a share of 0 nothing is, and what was in the file stays."""
    monkeypatch.setenv("EBBTIDE_REDIS_URL", damaged.settings.redis_url)
    monkeypatch.setenv("EBBTIDE_GROUP_ID", damaged.settings.group_id)
    out, count = tmp_path / "profiles.jsonl", len(damaged.replayed.profiles)
    assert main(["profiles", "--out", str(out)]) == 0
    assert len(out.read_bytes().splitlines()) == count - 2
    told = capsys.readouterr().err
    assert f"2 of {count} profiles were refused:\n  2 unreadable in Redis, such as partition " in told
    assert "a state of format 7" in told or "frame header" in told
    out.write_text("kept")
    assert main(["profiles", "--out", str(out), "--fail-over-refused", "0"]) == 1
    assert out.read_text() == "kept"
    refusals = Refusals("profiles")
    export_profiles(damaged.settings, out, None, refusals)
    assert (refusals.refused, refusals.accepted, refusals.read) == (2, count - 2, count)


def test_what_the_demo_refused_is_told_with_its_line_in_the_bundled_files() -> None:
    """Oracle: the bundled file, counted."""
    events = load_events(1)
    topic, _, _, value = events[-1]
    published = Published(dead_letters=[("UnknownKind", "kind: none of ours", value)])
    refusals = Refusals(fail_over=0)
    count_refused(published, events, refusals)
    (example,) = refusals.examples.values()
    assert example.where == f"streams/demo_data/{topic}.jsonl.gz"
    assert (example.where, example.line, value) in set(bundled_lines())
    assert (refusals.read, refusals.accepted) == (len(events), len(events) - 1)
    with pytest.raises(EbbtideError, match=r"^0\.\d\d% of the records were refused"):
        refusals.check()


def test_the_example_of_a_reason_does_not_depend_on_the_order_of_finding() -> None:
    """Of two the first by file and line."""
    examples = [Example("b", 1, "later"), Example("a", 12, "last"), Example("a", 9, "first")]
    for found in (examples, examples[::-1]):
        refusals = Refusals(read=3, accepted=1)
        for example in found:
            refusals.add("Malformed", example)
        assert refusals.in_one_line().endswith("3 Malformed (a:9: first)")
