"""`ebbtide whatif`: from a file of profiles, or from what is held, on the command line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from enrichment.customer.customer import Customer
from enrichment.days import day_of
from enrichment.model import load_model
from enrichment.scoring.standing import TIER
from streams.checkpoint import Checkpoint
from streams.cli.commands import main
from streams.demo.demo import load_events
from streams.replay.replay import Replayed, replay
from streams.state.held_state import HeldPartition

ASKED = ("--tier", "strategic=12", "--tier", "named=25%", "--tier", "field=25%")


@pytest.fixture(scope="module")
def replayed() -> Replayed:
    events = load_events(percent_of_households=5)
    return replay(((topic, value) for topic, _, _, value in events), load_model())


@pytest.fixture(scope="module")
def profiles(replayed: Replayed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profiles") / "customer-profiles.jsonl"
    path.write_bytes(b"".join(orjson.dumps(profile) + b"\n" for profile in replayed.profiles))
    return path


def model_file(folder: Path, **changes: dict[str, Any] | str) -> Path:
    """The built-in model with other numbers, one level deep."""
    document = load_model().model_dump(mode="json")
    for key, value in changes.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What the command prints; it must end well."""
    assert main(["whatif", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Exit code and the one line on stderr."""
    code = main(["whatif", *map(str, arguments)])
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    return code, output.err.removeprefix("ebbtide: error: ").strip()


def test_sizes_of_now_are_those_of_the_profiles(
    profiles: Path, replayed: Replayed, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: counts over the lines of the file; places are of customers with an order and a standing."""
    document = json.loads(told(capsys, *ASKED, "--profiles", profiles, "--json"))
    lines: list[Any] = replayed.profiles
    standing = [p for p in lines if p["standing"]["tier"] is not None]
    buyers = [p for p in standing if p["aggregates"]["order_count"] > 0]
    assert document["customers"] == {
        "with_order": len(buyers),
        "without_order": len(standing) - len(buyers),
        "without_standing": len(lines) - len(standing),
    }
    counts = Counter(p["standing"]["tier"] for p in buyers)
    assert {tier["tier"]: tier["now"]["customers"] for tier in document["tiers"]} == {
        tier: counts[tier] for tier in ("strategic", "named", "field", "inside")
    }
    assert document["tiers"][1]["places"] == len(buyers) // 4
    assert [tier["by_thresholds_alone"] for tier in document["tiers"][:2]] == [12, len(buyers) // 4]


def test_the_words_have_the_numbers_of_the_json(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sizes, moves, everyone who moves first, and lines that can be pasted into a model file."""
    document = json.loads(told(capsys, *ASKED, "--profiles", profiles, "--json"))
    text = told(capsys, *ASKED, "--profiles", profiles)
    assert "Nothing is changed." in text
    rows = [line.split() for line in text.splitlines()]
    for tier in document["tiers"]:
        row = next(row for row in rows if row[:1] == [tier["tier"]])
        assert row[-3:] == [
            str(tier["now"]["customers"]),
            str(tier["by_thresholds_alone"]),
            str(tier["then"]["customers"]),
        ]
    assert document["moved"]
    for customer in document["moved"][:20]:
        assert f"{customer['from']} → {customer['to']}" in text
        assert any(row[:1] == [customer["customer_id"]] for row in rows)
    pasted = yaml.safe_load(text.partition("beside by_potential:\n")[2])
    assert pasted["tiers"]["by_value"] == document["thresholds"]["then"]
    assert pasted["tiers"]["capacities"] == {"strategic": "12", "named": "25%", "field": "25%"}


def test_without_a_tier_the_drift_from_the_models_capacities_is_told(
    profiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Customers against places, for each tier that has a capacity."""
    kept_model = model_file(tmp_path, tiers={"capacities": {"strategic": "1", "named": "10%"}})
    document = json.loads(told(capsys, "--profiles", profiles, "--model", kept_model, "--json"))
    drift = {tier["tier"]: tier for tier in document["drift"]}
    assert drift["strategic"]["places"] == 1
    assert drift["named"]["over"] == drift["named"]["customers"] - drift["named"]["places"] != 0
    text = told(capsys, "--profiles", profiles, "--model", kept_model)
    assert text.index("Drift from the capacities that the model was made for") < text.index("Who would move")
    assert "10% (model's)" in text
    named = drift["named"]
    assert f"named      {named['customers']} customers for {named['places']} places (10%)" in text


def test_a_model_other_than_that_of_the_profiles_is_warned_of(
    profiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Since points of another model say nothing about thresholds of this one."""
    path = model_file(tmp_path, name="other")
    text = told(capsys, *ASKED, "--profiles", profiles, "--model", path)
    assert "Warning: profiles are of model default 1, and the thresholds of other 1." in text


class HeldInMemory:
    """What Redis would hold of one partition."""

    def __init__(self, customers: dict[str, Customer]) -> None:
        self.customers = customers

    async def all_ids(self) -> list[str]:
        return sorted(self.customers)

    async def load(self, customer_ids: Sequence[str]) -> dict[str, Customer]:
        return {customer_id: self.customers[customer_id] for customer_id in customer_ids}


def test_of_what_is_held_dwell_is_known(
    profiles: Path,
    replayed: Replayed,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same customers as in the file, but for those whom the days since their last change hold."""
    store: Any = HeldInMemory(replayed.customers)
    checkpoint = Checkpoint(1, "token", day_of(replayed.end_us), {})
    partition = HeldPartition(0, store, checkpoint, load_model().fingerprint, None)

    @asynccontextmanager
    async def held_partitions(*_: Any) -> AsyncIterator[list[Any]]:
        yield [partition]

    monkeypatch.setattr("streams.state.held_state.held_partitions", held_partitions)
    monkeypatch.setattr("streams.insight.profiles.PAGE_CUSTOMERS", 10)
    slow = model_file(tmp_path, hysteresis={"dwell_days": 60})
    held = json.loads(told(capsys, *ASKED, "--model", slow, "--json"))
    filed = json.loads(told(capsys, *ASKED, "--model", slow, "--json", "--profiles", profiles))
    assert (held["dwell_known"], filed["dwell_known"]) == (True, False)
    assert held["customers"] == filed["customers"]
    assert [tier["now"] for tier in held["tiers"]] == [tier["now"] for tier in filed["tiers"]]
    moved, would = ({m["customer_id"] for m in document["moved"]} for document in (held, filed))
    assert set() < moved < would
    assert (held["warnings"][:1], filed["warnings"][:1]) == (
        ["the standings of now were decided by another model"],
        [],
    )
    today = day_of(replayed.end_us)
    dwelling = {name for name in would if today - replayed.customers[name].decision.changed_days[TIER] < 60}
    assert would - moved == dwelling
    assert held["held_by_dwell"] == len(dwelling)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--tier", "inside=5"], 2, "with strategic, named, field as TIER"),
        (["--tier", "named"], 2, "a capacity is a count, such as 50, or a share of at most 100%"),
        (["--tier", "named=120%"], 2, "of at most 100%"),
        (["--tier", "named=1", "--tier", "named=2"], 2, "--tier named is given more than once"),
        (["--profiles", "/nowhere"], 2, "'/nowhere' does not exist"),
        ([], 2, "model 'default' keeps no capacities to compare with: say some, such as --tier strategic=50"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line says what is allowed."""
    found = refused(capsys, *arguments)
    assert found[0] == code
    assert message in found[1]


def test_a_file_without_profiles_is_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nobody to size a tier by."""
    path = tmp_path / "profiles.jsonl"
    path.touch()
    code, line = refused(capsys, *ASKED, "--profiles", path)
    assert (code, line) == (1, "no customer has an order: there is nothing to make thresholds of")
