"""The calibration report as one HTML page: whole in itself, escaped, and with everything that the report says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from markupsafe import Markup

from ebbtide.testing.records import order
from enrichment.calibration.as_lived.live_through import live_through
from enrichment.calibration.data_quality import RecordCounts, data_quality
from enrichment.calibration.drift import drift
from enrichment.calibration.snapshot import Snapshot
from enrichment.calibration.stability import stability
from enrichment.calibration.validation import validate
from enrichment.model import METRICS, Calibration, Model, Reference, load_model
from enrichment.scoring.scores import score
from schemas.documents import ChangeDocument
from streams.reports import drawing
from streams.reports.formats import number
from streams.reports.page import page_of, warnings_of, write_html
from streams.reports.rendering import MAX_ROWS, environment
from tests.enrichment.calibration.snapshots import cdnow, snapshots
from tests.streams.pages import Page

Document = dict[str, Any]


def calibrated(snapshot: Snapshot) -> Model:
    """The built-in model with the metrics' spread over a snapshot."""
    values = score(snapshot.features(load_model()), load_model()).metrics
    references = {}
    for at, name in enumerate(METRICS):
        defined = values[~np.isnan(values[:, at]), at]
        deciles = np.quantile(defined, np.arange(11) / 10).tolist() if len(defined) else []
        references[name] = Reference(deciles=deciles, missing=1 - len(defined) / len(values))
    calibration = Calibration(until="1997-09-30", customers=len(values), metrics=references)
    return load_model().model_copy(update={"calibration": calibration})


def fitted() -> Document:
    """The section on lifetime value, as in the contract, with a degenerate fit."""
    return {
        "chosen": "pareto_nbd",
        "time_unit": "week",
        "models": {
            "pareto_nbd": {
                "parameters": {"r": 0.553, "alpha": 10.578, "s": 0.606, "beta": 11.669},
                "log_likelihood": -9594.976,
                "customers": 2357,
                "status": "converged",
                "reason": None,
            },
            "bg_nbd": {
                "parameters": {"r": 0.9, "alpha": 4.4, "a": 2.3e13, "b": 9.9e14},
                "log_likelihood": -9582.4,
                "customers": 2357,
                "status": "degenerate",
                "reason": "a and b are beyond 1,000",
            },
            "gamma_gamma": {
                "parameters": {"p": 6.25, "q": 3.74, "gamma": 15.44},
                "log_likelihood": -4055.918,
                "customers": 946,
                "status": "converged",
                "reason": None,
            },
        },
        "holdout": {
            "days": 273,
            "pareto_nbd": {
                "correlation": 0.63,
                "mean_absolute_error": 0.755,
                "top_decile_share": 0.467,
                "total_bias": -0.11,
            },
            "constant_rate": {
                "correlation": 0.5,
                "mean_absolute_error": 0.9,
                "top_decile_share": 0.4,
                "total_bias": 0.3,
            },
            "auc_churn_risk": 0.77,
        },
        "spend_frequency_correlation": 0.0607,
        "warnings": ["BG/NBD is degenerate"],
    }


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of values in columns, by the templates' own macro."""
    macros = environment().get_template("macros.html.jinja").module
    return str(macros.table(rows, [(heading, at) for at, heading in enumerate(head)]))  # type: ignore[attr-defined]


@cache
def full_report() -> Document:
    """All sections, of the CDNOW sample."""
    cut, end = cdnow()
    model = load_model()
    return {
        "model": {"name": "shop", "version": "7", "base_currency": "USD"},
        "until": "1998-06-30",
        "warnings": ["something <b>bold</b> & wrong"],
        "lifetime_value": fitted(),
        "validation": validate(model, cut, end),
        "stability": stability([cut, end], model),
        "drift": drift(calibrated(cut), end),
        "data_quality": data_quality(end, model, RecordCounts({"purchases": {"accepted": 6919}})),
        "potential": {"verdict": "cannot be told", "means": {"emerging": 12.5, "low": 11.25}},
    }


@cache
def full_page() -> str:
    return page_of(full_report())


def test_the_page_is_whole_in_itself() -> None:
    """Nothing runs, nothing is loaded: no scripts, no addresses, and every reference is to an id of the page."""
    page = Page(full_page())
    assert page.elements["script"] == page.elements["link"] == page.elements["img"] == 0
    assert "http" not in full_page()
    assert "@import" not in full_page()
    assert {reference[0] for reference in page.references} == {"#"}
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    assert page.ids.most_common(1)[0][1] == 1


def test_every_section_has_its_plots() -> None:
    """Deciles, two calibration curves, frequency, ROC, three standings, stability and drift."""
    page = Page(full_page())
    assert page.elements["svg"] == page.elements["figure"] == 10
    for axis in (
        "decile, the highest expectation first",
        "share of those who did",
        "population stability index",
    ):
        assert axis in page.text


def test_text_is_escaped() -> None:
    """A warning with markup in it stays text, and so do names."""
    assert "something &lt;b&gt;bold&lt;/b&gt; &amp; wrong" in full_page()
    assert "<b>bold" not in full_page()
    page = page_of({"model": {"name": "<script>x</script>", "version": "1"}, "a<b": {"k<": "v<"}})
    assert Page(page).elements["script"] == 0


def test_warnings_come_first_each_once_with_its_section() -> None:
    """Before any section, those of the report and of its parts."""
    report = {
        "warnings": ["a"],
        "drift": {"warnings": ["b", "drift: b"]},
        "validation": {"warnings": ["a", "c"]},
    }
    assert warnings_of(report) == ["a", "drift: b", "validation: c"]
    page = Page(full_page())
    assert page.text.index("lifetime value: BG/NBD is degenerate") < page.text.index("model of purchases")
    assert "No warnings" in Page(page_of({})).text


@pytest.mark.parametrize("window_days", [60, 400])
def test_what_the_stream_did_is_told_once_and_unfolded(window_days: int) -> None:
    """In three tables, two where the holdout is too short for warnings; its verdicts are among the warnings only."""
    report = {**full_report(), "lived": lived(window_days)}
    html = page_of(report)
    section = html.partition('<section id="lived">')[2].partition("</section>")[0]
    assert section.count("<table>") == (3 if window_days == 60 else 2)
    assert "<details>" not in section
    assert not re.search(r"\b(nan|inf|None)\b", Page(html).text)
    page = Page(html)
    assert page.elements["details"] == html.count("<details>") == 6
    for verdict in report["lived"]["verdicts"]:
        assert page.text.count(verdict) == 1
        assert page.text.index(f"as lived: {verdict}") < page.text.index("What the stream does")
    told = "Nothing can be told of warnings: the holdout of 273 days is shorter than the window of 400 days."
    assert (told in page.text) == (window_days == 400)
    assert ("of those who stayed away 60 days were at_risk or lapsed before" in page.text) == (
        window_days == 60
    )


def lived(window_days: int) -> Document:
    """The section on a stream that holds everyone for active, and warns of customer 1; all are strategic but them."""
    cut, end = cdnow()
    changes = [
        {
            "customer_id": customer_id,
            "dimension": dimension,
            "previous": None,
            "current": standing,
            "as_of": as_of,
        }
        for at, customer_id in enumerate(cut.customer_ids)
        for dimension, standing, as_of in (
            ("lifecycle", "at_risk" if at == 0 else "active", "1997-09-01T00:00:00Z"),
            ("tier", "field" if at == 0 else "strategic", "1997-09-01T00:00:00Z"),
        )
    ]
    return live_through(cast("list[ChangeDocument]", changes), load_model(), cut, end, window_days)


def test_the_heading_says_what_the_page_is_about() -> None:
    """By the model's name and version, as far as it has them."""
    for model, heading in (
        (
            {"name": "calibrated", "version": "2018-01-01"},
            "Value model calibrated, 2018-01-01: how good it is",
        ),
        ({"name": "shop"}, "Value model shop: how good it is"),
        ({}, "Value model: how good it is"),
    ):
        assert f"<h1>{heading}</h1>" in page_of({"model": model})


def test_fits_are_shown_with_units_status_and_naive_predictions() -> None:
    """Scales in the time unit or the currency, shapes without; as precise as they are published."""
    page = Page(full_page()).text
    for told in (
        "Pareto/NBD alpha 10.578 weeks",
        "Pareto/NBD r 0.553 shape, without a unit",
        "Gamma-Gamma gamma 15.440 USD",
        "BG/NBD degenerate 2,357 -9,582.400 a and b are beyond 1,000",
        "BG/NBD a 2.3e+13",
        "constant rate 0.5000 0.9000 40.0% 30.0%",
        "AUC of churn risk, reversed 0.7700",
        "spend frequency correlation 0.0607",
    ):
        assert told in page


def test_standings_and_deciles_are_those_of_the_report() -> None:
    """Oracle: the report's own numbers, as people write them."""
    page, validation = Page(full_page()).text, full_report()["validation"]
    for row in validation["standings"]["segment"]:
        if row["customers"]:
            assert f"{row['standing']} {row['customers']:,} {100 * row['share']:.1f}%" in page
    top = validation["deciles"][0]
    assert f"1 {top['customers']} {number(top['expected_purchases'])} {top['actual_purchases']:,}" in page


def test_what_the_page_knows_nothing_of_is_shown_as_it_is() -> None:
    """A section without a form of its own, nested values and lists; nothing of a report is left out."""
    page = Page(
        page_of({"potential": {"verdict": "no", "of": {"emerging": [{"mean": 12.5, "n": 3}, {"n": 4}]}}})
    )
    assert "Potential" in page.text
    for told in ("verdict no", "Emerging", "mean n", "12.50 3", "– 4"):
        assert told in page.text


def test_things_of_one_kind_are_rows_of_one_table() -> None:
    """By their names, with a column for each of what is said of them; long sentences stay whole."""
    why = "all zero, and so kept as it was in the model that this calibration began with"
    page = page_of(
        {"scales": {"metrics": {"growth": {"action": "fitted", "n": 7}, "spend": {"action": why}}}}
    )
    assert Page(page).elements["table"] == 1
    assert f"Metrics of action n growth fitted 7 spend {why} –" in Page(page).text


def test_what_is_said_in_a_sentence_is_no_cell() -> None:
    """A long text stands below the table of short values; names of models are written as people write them."""
    why = "a family that is preferred less must be better by more than 2 standard errors"
    page = Page(
        page_of({"choice": {"first": "pareto_nbd", "reason": why, "ranking": ["bg_nbd", "empirical"]}})
    )
    assert "first Pareto/NBD ranking BG/NBD, empirical" in page.text
    assert f"Reason: {why}" in page.text


def test_tables_of_an_empirical_fit_are_told_by_their_size() -> None:
    """Their numbers are for the machine, and in the JSON report; naive predictions stand beside the models."""
    fit = {
        "parameters": {"silences": [0.0, 1.0], "hazards": [[0.1], [0.2]]},
        "status": "converged",
        "customers": 9,
    }
    accuracy = {"correlation": 0.5, "mean_absolute_error": 1.25, "top_decile_share": None, "total_bias": -0.5}
    found = {
        "chosen": "empirical",
        "reason": "both models failed",
        "time_unit": "week",
        "models": {"empirical": fit},
        "holdout": {"days": 92, "bg_nbd": None, "empirical": accuracy, "naive": {"constant_rate": accuracy}},
        "model_file": {"models": {"empirical": fit}, "refused": None},
    }
    page = Page(page_of({"lifetime_value": found})).text
    assert "both models failed." in page
    assert "empirical silences 2 numbers weeks empirical hazards 2 × 1 numbers purchases per week" in page
    assert "constant rate 0.5000 1.250 -50.0%" in page
    assert "Parameters up to the cut" in page
    assert "Parameters for the model file" in page


def test_a_long_list_is_cut_and_says_so() -> None:
    """In the page only; it refers to the JSON report."""
    html = table(("n",), [(at,) for at in range(MAX_ROWS + 7)])
    assert html.count("<tr>") == MAX_ROWS + 1
    assert "7 more rows are in the JSON report." in html


def test_the_same_report_gives_the_same_bytes() -> None:
    """No time, no random ids."""
    assert page_of(full_report()) == full_page()


def test_no_value_that_is_not_a_number_is_shown() -> None:
    """Neither in tables nor in plots."""
    assert not re.search(r"\b(nan|inf|None)\b", Page(full_page()).text)
    assert "nan" not in re.sub(r"[a-z]{4,}", "", full_page().lower())


def test_without_matplotlib_the_tables_are_there_and_the_page_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the warnings, with the command that brings it."""
    monkeypatch.setattr(drawing, "are_available", lambda: False)
    page = Page(page_of(full_report()))
    assert page.elements["svg"] == 0
    assert (
        "the plots are left out: matplotlib is not installed (pip install 'ebbtide[calibration]')"
        in page.text
    )
    assert "Holdout by decile of expected purchases" in page.text


@pytest.mark.parametrize("events", [[], [order("2025-01-05")]], ids=["nobody", "one customer"])
def test_a_tiny_history_has_a_page_too(events: list[Any]) -> None:
    """With its reasons in place of plots that cannot be drawn."""
    cut, end = snapshots(events, "2025-02-01", "2025-03-01")
    model = load_model()
    report = {
        "validation": validate(model, cut, end),
        "stability": stability([cut, end], model),
        "drift": drift(model, end),
        "data_quality": data_quality(end, model),
    }
    page = Page(page_of(report))
    assert "The model was not calibrated: there is no distribution to compare with." in page.text
    assert "the holdout" in page.text or "nothing can be validated" in page.text


def test_a_report_whose_fits_failed_has_a_page_too() -> None:
    """Parameters and likelihoods that are null are dashes; nothing was chosen."""
    failed = {
        "parameters": None,
        "log_likelihood": None,
        "customers": 0,
        "status": "failed",
        "reason": "no orders",
    }
    report = {"lifetime_value": {"chosen": None, "models": {"bg_nbd": failed}, "holdout": None}}
    page = Page(page_of(report)).text
    assert "BG/NBD failed 0 – no orders" in page
    assert "Chosen: none." in page


def test_the_page_fits_a_phone_and_follows_the_dark() -> None:
    """A viewport of the device's width, tables that scroll by themselves, and plots in the page's own colours."""
    assert '<meta name="viewport" content="width=device-width,initial-scale=1">' in full_page()
    assert "@media (prefers-color-scheme:dark)" in full_page()
    body = full_page().partition("</style>")[2]
    assert body.count('<div class="wide">') == body.count("<table>")
    assert not re.search(r"#[0-9a-f]{6}\b", body)
    assert "var(--first)" in body


def test_the_file_is_written_where_it_was_asked_for(tmp_path: Path) -> None:
    """Folders are made; a page that was there is replaced."""
    path = tmp_path / "new" / "report.html"
    write_html({"until": "2025-01-31"}, path)
    write_html({"until": "2025-02-28"}, path)
    assert path.read_text("utf-8") == page_of({"until": "2025-02-28"})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (1234.56, "1,235"),
        (123.456, "123.5"),
        (12.3456, "12.35"),
        (1.23456, "1.235"),
        (0.123456, "0.1235"),
        (0.0000123456, "1.23e-05"),
        (2.3e13, "2.3e+13"),
        (float("nan"), "–"),
    ],
)
def test_numbers_have_four_digits(value: float, shown: str) -> None:
    """And more only before the point."""
    assert number(value) == shown


def test_markup_is_not_escaped_twice() -> None:
    """A cell that is HTML already is taken as it is; any other is text."""
    html = table(("a", "b"), [("x", Markup("<i>y</i>")), ("<x>", 1)])
    assert "<td><i>y</i></td>" in html
    assert "&lt;x&gt;" in html
