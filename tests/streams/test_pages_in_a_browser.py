"""Pages as a browser shows them, wide and narrow, light and dark: nothing is cut off, and nothing goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from playwright.sync_api import Browser
from playwright.sync_api import Page as Shown

import ebbtide
from ebbtide.testing.records import model
from streams.demo.demo import load_events
from streams.replay.fared import how_they_fared
from streams.replay.replay import replay
from streams.reports.overview import overview_of
from streams.reports.overview_page import page_of
from streams.reports.page import page_of as calibration_page_of
from tests.absent import missing
from tests.services.browser import NoBrowserHereError, start_browser
from tests.streams.test_report_html import full_report

pytestmark = pytest.mark.xdist_group("browser")

PAGES = ("overview", "calibration", "analysis")
WIDTHS = (1280, 400)
FAULTS = (Path(__file__).parent / "page_faults.js").read_text("utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with start_browser() as started:
            yield started
    except NoBrowserHereError as error:
        missing("a browser", str(error))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The overview of some of the demo's households, the report of a calibration, and the page of an analysis."""
    folder = tmp_path_factory.mktemp("pages")
    records = [(topic, value) for topic, _, _, value in load_events(2)]
    replayed = replay(iter(records), model())
    fared = how_they_fared(replayed.results.triggers, replayed.customers, replayed.end_us)
    changes: Any = replayed.results.changes
    profiles: Any = replayed.profiles
    told = overview_of(changes, profiles, fared, model(), replayed.end_us)
    written = {"overview": page_of(told), "calibration": calibration_page_of(full_report())}
    rows = (orjson.loads(value) for topic, value in records if topic == "purchases")
    ebbtide.analyze(
        [
            {"customer_id": row["customer_id"], "date": row["occurred_at"], "amount": row["total"]}
            for row in rows
            if row["kind"] == "order"
        ]
    ).report(folder / "analysis.html")
    for name, html in written.items():
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in PAGES}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_is_shown_whole(
    browser: Browser, pages: dict[str, Path], name: str, scheme: Any, width: int
) -> None:
    """Folded sections are opened; tables may scroll sideways in boxes of their own. Text can be read on its ground."""
    said: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    shown: Shown = context.new_page()
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("requestfailed", lambda request: said.append(request.url))
    try:
        shown.goto(pages[name].as_uri())
        shown.evaluate("() => document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert shown.evaluate(FAULTS) == []
        assert said == []
    finally:
        context.close()
