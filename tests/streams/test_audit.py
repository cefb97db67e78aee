"""`ebbtide audit`: from a file of profiles or from Redis, as text and as JSON, and what it refuses."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import streams.insight.profiles
from streams.cli.commands import main
from streams.console.refusals import Refusals
from streams.errors import EbbtideError, UsageError
from streams.settings import Settings, load_settings
from tests.streams.some_profiles import profile, write_profiles

Document = dict[str, Any]


def crowd() -> Iterator[Document]:
    """Forty in the north, half of them named; forty in the south, five of them; three without; one denied."""
    for at in range(40):
        yield profile(
            f"n{at}", "named" if at < 20 else "inside", "high" if at < 20 else "low", region="north"
        )
        yield profile(f"s{at}", "named" if at < 5 else "inside", "low", region="south", age="45")
    for at in range(3):
        yield profile(f"w{at}", "inside", "low")
    yield profile("denied", None, None)


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    return write_profiles(tmp_path / "profiles.jsonl", crowd())


def audited(capsys: pytest.CaptureFixture[str], *arguments: object) -> Document:
    assert main(["audit", "--json", *map(str, arguments)]) == 0
    document: Document = json.loads(capsys.readouterr().out)
    return document


def test_json_has_groups_outcomes_and_warnings(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the counts of the file; the one without a standing is counted, and in no group."""
    found = audited(capsys, "--by", "region", "--profiles", profiles)
    assert (found["by"], found["customers"], found["without_standing"]) == ("region", 83, 1)
    assert [(group["group"], group["customers"]) for group in found["groups"]] == [
        ("north", 40),
        ("south", 40),
        (None, 3),
    ]
    tier = {row["label"]: row for row in found["outcomes"][0]["groups"]}
    assert (tier["south"]["ratio"], tier["south"]["verdict"]) == (0.25, "below")
    assert sum(": south has" in warning for warning in found["warnings"]) == 2


def test_text_begins_with_the_warnings(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of small groups too; then a table for each favourable outcome, and the shares."""
    assert main(["audit", "--by", "region", "--profiles", str(profiles)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0]
        == "Customers by region: 83 with a standing, in 3 groups; 1 without a standing are not looked at"
    )
    assert lines[2].startswith(
        "warning: tier strategic or named: south has 12.5% (5 of 40), 0.25 times the share of north"
    )
    assert any(
        line.startswith("warning: tier strategic or named: (without region) has 0.0% (0 of 3)")
        for line in lines
    )
    titles = [line for line in lines if line.startswith(("Favoured", "Shares"))]
    assert titles == [
        "Favoured: tier strategic or named; most favoured: north",
        "Favoured: segment high; most favoured: north",
        "Shares per tier",
        "Shares per segment",
    ]
    assert lines[-1] == "* fewer than 30 customers: the share may well be chance."


def test_where_all_groups_fare_alike_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten thousand customers each, and shares that are the same."""
    standings = (("named", "high"), ("inside", "low"))
    everyone = (profile(f"c{at}", *standings[at % 4 // 2], region="ab"[at % 2]) for at in range(4000))
    path = write_profiles(tmp_path / "profiles.jsonl", everyone)
    assert main(["audit", "--by", "region", "--profiles", str(path)]) == 0
    assert "No group is below 0.8 times the share of the most favoured one." in capsys.readouterr().out


def test_the_attribute_may_be_named_as_in_the_profile(
    profiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`attributes.region` is `region`."""
    assert audited(capsys, "--by", "attributes.region", "--profiles", profiles) == audited(
        capsys, "--by", "region", "--profiles", profiles
    )


def test_a_compressed_file_gives_the_same(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `replay` and `profiles` write it, or with gzip."""
    packed = profiles.with_name("profiles.jsonl.gz")
    packed.write_bytes(gzip.compress(profiles.read_bytes()))
    assert audited(capsys, "--by", "region", "--profiles", packed) == audited(
        capsys, "--by", "region", "--profiles", profiles
    )


def test_what_replay_writes_can_be_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two customers with a region, one without, and one who denies profiling."""
    orders = [
        {
            "event_id": name,
            "customer_id": name,
            "occurred_at": "2025-01-09T12:00:00Z",
            "kind": "order",
            "order_id": name,
            "currency": "USD",
            "total": "10.00",
            **({} if name == "c" else {"attributes": {"region": f"of {name}"}}),
        }
        for name in "abcd"
    ]
    denial = {
        "event_id": "d-denies",
        "customer_id": "d",
        "occurred_at": "2025-01-09T13:00:00Z",
        "kind": "consent",
        "purpose": "profiling",
        "granted": False,
    }
    purchases, consents = tmp_path / "purchases.jsonl", tmp_path / "consents.jsonl"
    purchases.write_text("".join(f"{json.dumps(one)}\n" for one in orders))
    consents.write_text(json.dumps(denial))
    out = tmp_path / "out"
    assert (
        main(["replay", "--purchases", str(purchases), "--consents", str(consents), "--out", str(out)]) == 0
    )
    capsys.readouterr()
    found = audited(capsys, "--by", "region", "--profiles", out / "customer-profiles.jsonl")
    assert [group["group"] for group in found["groups"]] == ["of a", "of b", None]
    assert found["without_standing"] == 1


def test_without_a_file_the_profiles_are_those_of_redis(
    profiles: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `ebbtide profiles` writes is audited, and its file is gone afterwards."""
    written = []

    def export(settings: Settings, out: Path, until_us: int | None, _: Refusals) -> int:
        assert (settings, until_us) == (load_settings(None), None)
        out.write_bytes(profiles.read_bytes())
        written.append(out)
        return 84

    expected = audited(capsys, "--by", "region", "--profiles", profiles)
    monkeypatch.setattr(streams.insight.profiles, "export_profiles", export)
    assert audited(capsys, "--by", "region") == expected
    assert [path.exists() for path in written] == [False]


def test_an_attribute_that_nobody_has_is_a_wrong_use_that_names_the_others(
    profiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, in one line; a typing error must not look like a group without the attribute."""
    assert main(["audit", "--by", "regoin", "--profiles", str(profiles)]) == UsageError.exit_code
    assert capsys.readouterr().err == (
        "ebbtide: error: --by regoin: no customer has this attribute; there are: age, region\n"
    )


@pytest.mark.parametrize(
    ("lines", "told"), [([], ""), ([profile("a", None, None)], ", only 1 without a standing")]
)
def test_a_file_without_a_standing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[Document], told: str
) -> None:
    """There is nothing to audit, and the reason is said."""
    path = write_profiles(tmp_path / "profiles.jsonl", lines)
    assert main(["audit", "--by", "region", "--profiles", str(path)]) == EbbtideError.exit_code
    assert capsys.readouterr().err.endswith(f": there is no profile with a standing to audit{told}\n")
