"""A part that fails costs the others nothing: what they found is kept and reported."""

from __future__ import annotations

import re

import pytest

from bench.__main__ import options_of, run
from bench.report import Failures, Part, Table, document, markdown
from bench.root import ROOT


def found(name: str) -> Part:
    return Part([Table(name.title(), ("ms",), [[1]])], {name: 1.0})


def failing() -> Part:
    raise TimeoutError("too slow")


def test_a_part_that_fails_keeps_no_other_from_being_run(capsys: pytest.CaptureFixture[str]) -> None:
    """All parts are run in order, and after each one everything so far is there to be kept."""
    kept: list[tuple[list[str], Failures]] = []
    runs = {"one": lambda: found("one"), "two": failing, "three": lambda: found("three")}
    parts, failures = run(runs, lambda parts, failures: kept.append(([*parts], dict(failures))))
    failed = {"two": "TimeoutError: too slow"}
    assert kept == [(["one"], {}), (["one"], failed), (["one", "three"], failed)]
    assert (list(parts), failures) == (["one", "three"], failed)
    assert "too slow" in capsys.readouterr().err


def test_an_interruption_ends_the_run() -> None:
    """It is no failure of a part, and no other part begins."""

    def interrupted() -> Part:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run({"one": interrupted, "two": failing}, lambda parts, failures: None)


def test_reports_say_what_failed() -> None:
    """Both reports name the part and why it found nothing."""
    failures = {"two": "TimeoutError: too slow"}
    assert "**two failed**: TimeoutError: too slow" in markdown({"one": found("one")}, "somewhere", failures)
    assert "failed" not in markdown({"one": found("one")}, "somewhere")
    assert document({}, "somewhere", failures)["failures"] == failures


@pytest.mark.parametrize("name", ["customers", "processes"])
def test_parts_can_be_chosen(name: str) -> None:
    """`--only` takes each part by its name."""
    assert options_of(["--only", name]).only == [name]


def test_benchmarks_import_nothing_of_the_tests() -> None:
    """What both need is in `ebbtide.testing`."""
    sources = {path: path.read_text("utf-8") for path in (ROOT / "bench").rglob("*.py")}
    assert sources
    of_tests = re.compile(r"^\s*(from|import) tests\b", re.MULTILINE)
    assert [str(path) for path, text in sources.items() if of_tests.search(text)] == []
