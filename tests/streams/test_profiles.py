"""`ebbtide profiles`: every customer's profile from Redis, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import orjson
import pytest

from enrichment.days import format_time, midnight_us
from schemas.timestamps import parse_timestamp
from streams.demo.embedded import free_port
from streams.errors import EbbtideError
from streams.insight import profiles
from streams.insight.profiles import export_profiles
from tests.services import RedisService
from tests.streams.held_group import NOWHERE, HeldGroup, hold, hold_group


@pytest.fixture(scope="module")
def group(redis_server: RedisService) -> HeldGroup:
    return hold_group(redis_server.url, "profiles-of-a-group")


def test_profiles_as_of_the_logs_end_are_those_of_replay(group: HeldGroup, tmp_path: Path) -> None:
    """One line per customer of all partitions, by id; oracle: replay's profiles of the same events."""
    out = tmp_path / "new" / "profiles.jsonl"
    written = export_profiles(group.settings, out, group.replayed.end_us)
    expected = b"".join(orjson.dumps(profile) + b"\n" for profile in group.replayed.profiles)
    assert out.read_bytes() == expected
    assert written == len(group.replayed.profiles) > 50
    assert len(set(group.partition_of.values())) == 4


def test_a_file_of_csv_has_a_row_each(group: HeldGroup, tmp_path: Path) -> None:
    """Oracle: the JSON Lines; amounts as they are written there, lists and objects as JSON, nothing where null."""
    table, lines = tmp_path / "profiles.csv", tmp_path / "profiles.jsonl"
    for out in (table, lines):
        export_profiles(group.settings, out, None)
    rows = list(csv.DictReader(io.StringIO(table.read_text("utf-8"))))
    documents = [json.loads(line) for line in lines.read_bytes().splitlines()]
    assert [row["customer_id"] for row in rows] == [document["customer_id"] for document in documents]
    for row, document in zip(rows, documents, strict=True):
        known = {**document, **document["standing"], **document["scores"], **document["traits"]}
        for column, told in row.items():
            value = {**known, **document["aggregates"]}[column]
            expected = json.loads(told) if isinstance(value, (dict, list)) else told
            assert expected == (
                value if isinstance(value, (dict, list)) else "" if value is None else str(value)
            )


def test_profiles_do_not_depend_on_how_many_customers_are_read_at_a_time(
    group: HeldGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of seven give the same bytes as one page."""
    whole, paged = tmp_path / "whole.jsonl", tmp_path / "paged.jsonl"
    export_profiles(group.settings, whole, None)
    monkeypatch.setattr(profiles, "PAGE_CUSTOMERS", 7)
    export_profiles(group.settings, paged, None)
    assert whole.read_bytes() == paged.read_bytes()


def test_without_until_a_profile_is_as_of_the_later_of_latest_record_and_last_midnight(
    group: HeldGroup, tmp_path: Path
) -> None:
    """Oracle: the latest `occurred_at` of each customer in the events themselves."""
    out = tmp_path / "profiles.jsonl"
    export_profiles(group.settings, out, None)
    latest: dict[str, int] = {}
    for _, _, key, value in group.events:
        at_us = parse_timestamp(json.loads(value)["occurred_at"])
        latest[key.decode()] = max(at_us, latest.get(key.decode(), 0))
    last_midnight_us = midnight_us(group.midnight_day)
    as_of = {line["customer_id"]: line["as_of"] for line in map(json.loads, out.read_text().splitlines())}
    assert as_of == {one: format_time(max(at_us, last_midnight_us)) for one, at_us in latest.items()}


def test_until_before_a_record_that_is_held_is_refused_and_no_file_is_touched(
    group: HeldGroup, tmp_path: Path
) -> None:
    """Redis cannot go back in time; what was in the file stays, and nothing else is left beside it."""
    out = tmp_path / "profiles.jsonl"
    out.write_text("kept")
    with pytest.raises(
        EbbtideError, match=r"^--until 2017-03-01T00:00:00Z is before what Redis holds: customer "
    ):
        export_profiles(group.settings, out, parse_timestamp("2017-03-01T00:00:00Z"))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]


def test_a_full_disk_is_no_fault_of_redis(group: HeldGroup) -> None:
    """The error is that of the file."""
    with pytest.raises(OSError, match="No space left on device"):
        export_profiles(group.settings, Path("/dev/full"), None)


def test_a_group_that_holds_nothing_is_named(group: HeldGroup, tmp_path: Path) -> None:
    """A wrong group or prefix is likelier than an empty one."""
    settings = group.settings.model_copy(update={"group_id": "nobody"})
    with pytest.raises(EbbtideError, match=r"holds nothing of group 'nobody' .* has its worker run\?$"):
        export_profiles(settings, tmp_path / "profiles.jsonl", None)


def test_a_partition_being_restored_is_not_exported(redis_server: RedisService, tmp_path: Path) -> None:
    """Half of its customers would be missing without a word."""
    from streams.demo.demo import demo_settings

    settings = demo_settings(NOWHERE, redis_server.url).model_copy(update={"group_id": "rebuilding"})
    hold(settings, settings.load_model(), 2, 17_000, [], is_restoring=True)
    with pytest.raises(EbbtideError, match="partition 2 is being restored"):
        export_profiles(settings, tmp_path / "profiles.jsonl", None)


def test_redis_that_does_not_answer_is_one_line_with_the_setting(group: HeldGroup, tmp_path: Path) -> None:
    """The line names the address and the setting."""
    settings = group.settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port()}/0"})
    with pytest.raises(EbbtideError, match=r"^Redis does not answer at redis://.*EBBTIDE_REDIS_URL"):
        export_profiles(settings, tmp_path / "profiles.jsonl", None)


def test_standings_of_another_model_are_warned_about(
    group: HeldGroup, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scores are then those of the model that the settings name, standings not yet."""
    settings = group.settings.model_copy(update={"base_currency": "EUR"})
    export_profiles(settings, tmp_path / "profiles.jsonl", None)
    assert "warning: the standings were decided by another model" in capsys.readouterr().err
