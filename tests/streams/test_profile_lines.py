"""Files of profiles: what `audit` and `whatif` read alike, and the lines that both refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.profiles import ADDED_TRAITS
from streams.cli.commands import main
from streams.errors import EbbtideError
from streams.insight.profile_lines import read_profiles
from tests.streams.some_profiles import profile

COMMANDS = (("audit", "--by", "region"), ("whatif", "--tier", "named=50%"))


def changed(path: str, value: Any) -> str:
    """The line of a profile with another value at a path such as `standing.tier`."""
    document = profile("second", "named", "low", region="a")
    *parts, last = path.split(".")
    within: Any = document
    for part in parts:
        within = within[part]
    within[last] = value
    return json.dumps(document)


def lacking(key: str) -> str:
    """The line of a profile without a key."""
    return json.dumps({k: v for k, v in profile("second", "named", "low").items() if k != key})


REFUSED = {
    "no JSON": ("{", "not JSON: "),
    "a surrogate": ('{"customer_id": "\\ud800"}', "not JSON: "),
    "a list": ("[1, 2]", "not a JSON object"),
    "no customer": (lacking("customer_id"), "customer_id: Field required"),
    "no model": (lacking("model"), "model: Field required"),
    "a customer that is a list": (changed("customer_id", ["c"]), "customer_id: Input should be a valid string"),
    "a standing that is a list": (changed("standing", []), "standing: Input should be an object"),
    "attributes that are a list": (changed("traits.attributes", ["a"]), "traits.attributes: Input should be an object"),
    "an attribute that is a list": (
        changed("traits.attributes.region", ["a"]),
        "traits.attributes.region: Input should be a valid string",
    ),
    "an answer that is a list": (
        changed("traits.declared", {"budget": [1]}),
        "traits.declared.budget: Input should be a string, a number, true or false",
    ),
    "an unknown tier": (changed("standing.tier", "gold"), "standing.tier: Input should be 'strategic', 'named', "),
    "half a standing": (changed("standing.segment", None), "standing.segment: null, where others beside it are not"),
    "half the scores": (changed("scores.potential", None), "scores.potential: null, where others beside it are not"),
    "money as a number": (changed("aggregates.revenue_365d", 5), "aggregates.revenue_365d: Input should be a valid s"),
    "money with an exponent": (changed("aggregates.margin", "1e9"), "aggregates.margin: String should match pattern"),
    "money beyond 64 bits": (
        changed("traits.customer_lifetime_value_365d", "9" * 30),
        "traits.customer_lifetime_value_365d: beyond 9,223,372,036,855, more than can be added up",
    ),
    "a key of no profile": (changed("colour\n", "red"), "colour\\n: Extra inputs are not permitted"),
    "a customer twice": (
        json.dumps(profile("first", "inside", "low")),
        "customer_id: the customer of line 1 again",
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(("line", "message"), REFUSED.values(), ids=REFUSED)
def test_a_line_that_is_no_profile_is_refused_by_its_number_and_field(
    command: tuple[str, ...], line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, in one line, whichever command reads it; blank lines count."""
    path = tmp_path / "profiles.jsonl"
    path.write_text(f"{json.dumps(profile('first', 'named', 'low', region='a'))}\n\n{line}\n")
    assert main([*command, "--profiles", str(path)]) == EbbtideError.exit_code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"ebbtide: error: {path}, line 3: no profile: {message}")
    assert output.err.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_blank_lines_are_passed_over(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever they are, and whatever white space they hold; the output is that of the file without them."""
    lines = [json.dumps(profile(name, "named", "low", region=name)) for name in "ab"]
    path, spaced = tmp_path / "profiles.jsonl", tmp_path / "spaced.jsonl"
    path.write_text("\n".join(lines))
    spaced.write_text("\n \t\r\n" + "\n\r\n".join(lines) + "\n\n\n")
    printed = []
    for read in (path, spaced):
        assert main([*command, "--json", "--profiles", str(read)]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_profiles_of_version_0_1_are_read(tmp_path: Path) -> None:
    """What they lack of traits is null; oracle: the same lines with it."""
    profiles = [profile("b", "named", "high"), profile("a", None, None)]
    for one in profiles:
        one["traits"] |= dict.fromkeys(ADDED_TRAITS)
    path = tmp_path / "profiles.jsonl"
    path.write_text(
        "\n".join(
            json.dumps(one | {"traits": {k: v for k, v in one["traits"].items() if k not in ADDED_TRAITS}})
            for one in profiles
        )
    )
    assert list(read_profiles(path)) == profiles


def test_profiles_are_given_as_they_are(tmp_path: Path) -> None:
    """With and without a standing, in the order of the lines, and with the largest amount that can be added up."""
    profiles = [profile("b", "named", "high", region="é"), profile("a", None, None)]
    profiles[0]["aggregates"]["cost_to_serve_365d"] = "-9223372036854.775807"
    path = tmp_path / "profiles.jsonl"
    path.write_text("\n".join(map(json.dumps, profiles)), encoding="utf-8")
    assert list(read_profiles(path)) == profiles
    assert main(["whatif", "--tier", "named=50%", "--json", "--profiles", str(path)]) == 0
