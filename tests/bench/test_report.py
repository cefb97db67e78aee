"""The report says of each target what was measured and whether it is met."""

from __future__ import annotations

import orjson

from bench.report import TARGETS, Part, Table, document, markdown

FIGURES = {"exactly_once_vs_quix": 3.2, "exactly_once_vs_faust": 20.0, "events_per_core_s": 90_000.0}
PARTS = {
    "one": Part([Table("Some", ("who", "events/s"), [["a", 12_345.6], ["b", None]], "How.")], FIGURES),
    "two": Part([Table("More", ("ms",), [[float("inf")], [float("nan")], [1.2345]])]),
}


def test_a_report_says_which_targets_are_met() -> None:
    """A bound is met, or not, or there is none; targets without a figure are named below."""
    lines = markdown(PARTS, "somewhere").splitlines()
    quix = next(line for line in lines if "Quix" in line and line.startswith("|"))
    faust = next(line for line in lines if "Faust" in line and line.startswith("|"))
    goal = next(line for line in lines if "goal" in line)
    assert [cell.strip() for cell in quix.split("|")[2:5]] == ["≥ 3 ×", "3.2 ×", "yes"]
    assert [cell.strip() for cell in faust.split("|")[2:5]] == ["≥ 25 ×", "20 ×", "no"]
    assert goal.split("|")[4].strip() == ""
    (missing,) = (line for line in lines if line.startswith("Not measured"))
    assert all((target.says in missing) == (target.figure not in FIGURES) for target in TARGETS)


def test_a_report_writes_numbers_with_as_many_digits_as_matter() -> None:
    """Three digits that matter, whole numbers from 100 on, and a dash where there is none."""
    text = markdown(PARTS, "somewhere")
    for written in ("12,346", "–", "∞", "1.23"):
        assert written in text
    assert "nan" not in text


def test_a_report_for_programs_holds_the_same() -> None:
    """JSON has all figures, and the targets that they belong to."""
    found = orjson.loads(orjson.dumps(document(PARTS, "somewhere")))
    assert found["figures"] == FIGURES
    assert {target["figure"]: target["met"] for target in found["targets"]} == {
        "exactly_once_vs_quix": True,
        "exactly_once_vs_faust": False,
        "events_per_core_s": None,
    }
