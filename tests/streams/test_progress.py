"""Long work tells how far it has come, also where there is no terminal."""

from __future__ import annotations

import io

from streams.console.progress import reporting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_progress_is_plain_lines() -> None:
    """Each line says what, how much of how much, and how fast; the last one comes at the end."""
    stream = io.StringIO()
    with reporting("replay", stream=stream, interval_s=0.0) as report:
        report(1_000, 4_000)
        report(4_000, 4_000)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("replay: 1,000 of 4,000 events (25%), ")
    assert lines[1].startswith("replay: 4,000 of 4,000 events (100%), ")
    assert lines[1].endswith(" events/s")


def test_short_work_is_told_once() -> None:
    """Reports closer together than the interval are one line."""
    stream = io.StringIO()
    with reporting("profiles", "customers", stream=stream, interval_s=3600.0) as report:
        for done in range(1, 11):
            report(done, 0)
    assert len(stream.getvalue().splitlines()) == 1
    assert stream.getvalue().startswith("profiles: 10 customers, ")


def test_on_a_terminal_progress_is_a_bar() -> None:
    """The bar is drawn with control sequences, and ends complete."""
    stream = Terminal()
    with reporting("replay", stream=stream) as report:
        report(4_000, 4_000)
    assert "4000/4000" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()
