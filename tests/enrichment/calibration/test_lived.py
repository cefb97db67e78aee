"""What a replay did over the holdout, beside plain rules: figures counted by hand, of changes made up for them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from ebbtide.testing.records import day, model, order
from enrichment.calibration.as_lived.live_through import live_through, verdicts_on, window_of
from enrichment.calibration.as_lived.panels import Panels, warnings_beside_recency
from enrichment.calibration.as_lived.there_and_back import there_and_back
from enrichment.calibration.as_lived.timelines import PurchaseDays, moves_of
from enrichment.calibration.bootstrap import RESAMPLES, interval, resampled
from enrichment.calibration.snapshot import Snapshot
from enrichment.scoring.scores import score
from schemas.documents import ChangeDocument
from tests.enrichment.calibration.histories import FIRST_DATE, FIRST_DAY, orders, snapshots
from tests.enrichment.calibration.snapshots import snapshots as snapshots_on
from tests.enrichment.calibration.snapshots import written

Document = dict[str, Any]
Told = tuple[float, str | None]
"""A day (0 is FIRST_DATE; .5 is its noon) and the standing from then on."""


def changes(dimension: str, **of_customers: Sequence[Told]) -> list[ChangeDocument]:
    """The changes of some customers, who have no standing before."""
    made = []
    for customer_id, told in of_customers.items():
        previous = None
        for when, current in told:
            as_of = dt.datetime.combine(FIRST_DATE, dt.time()) + dt.timedelta(days=when)
            made.append(
                {
                    "customer_id": customer_id,
                    "dimension": dimension,
                    "previous": previous,
                    "current": current,
                    "as_of": f"{as_of.isoformat()}Z",
                }
            )
            previous = current
    return cast("list[ChangeDocument]", made)


def history(purchases: dict[str, list[int]], cut: int, end: int) -> tuple[Snapshot, Snapshot]:
    """Snapshots at the ends of two days, of orders of ten."""
    before, after = snapshots(
        orders({key: [(on, 10.0) for on in days] for key, days in purchases.items()}), cut, end
    )
    return before, after


WARNED_BUYERS = {
    "a": [95, 120],
    "b": [99, 105, 112, 124],
    "c": [98],
    "d": [99, 113],
    "e": [116],
}
WARNED = changes(
    "lifecycle",
    a=[(95.5, "active"), (100.99, "at_risk")],
    b=[(99.5, "active"), (107.0, "at_risk"), (108.0, "active")],
    c=[(98.5, "active"), (107.4, "at_risk"), (107.5, "lapsed")],
    d=[(50.5, "active"), (99.6, None), (113.5, "active")],
    e=[(60.5, "prospect"), (116.5, "active")],
    gone=[(99.5, "lapsed")],
)


@pytest.fixture(scope="module")
def warned() -> Document:
    """A window of 10 days on panels 100, 107 and 114.

    Rows: a100 (at_risk, silent for 5 days, stays away), b100 (1 day), b107 (at_risk, 2 days), b114 (2 days; buys on the
    last day of the window), c100 (2 days, stays away), c107 (lapsed, 9 days, stays away) and d114 (1 day, stays away).
    A standing is that of the end of a day. Left out are who has no standing, no order yet, or has been silent for 10
    days already.
    """
    return live_through(WARNED, model(), *history(WARNED_BUYERS, 100, 124), 10)


def test_panels_are_every_seventh_day_that_leaves_a_window(warned: Document) -> None:
    """7 rows of 4 customers, of which 4 stay away."""
    assert warned["panel"] == {
        "first": str(FIRST_DATE + dt.timedelta(days=100)),
        "last": str(FIRST_DATE + dt.timedelta(days=114)),
        "count": 3,
        "every_days": 7,
        "customers": 4,
        "customer_days": 7,
        "stayed_away": 4,
        "base_rate": pytest.approx(4 / 7, abs=1e-6),
        "alarms_of_recency_45": 0,
        "precision_of_recency_45": None,
        "recall_of_recency_45": 0.0,
    }


@pytest.mark.parametrize(
    ("warning", "alarms", "precision", "recall", "recency_precision", "recency_recall", "ratio"),
    [
        ("at_risk", 2, 1 / 2, 1 / 4, 1, 2 / 4, 1 / 2),
        ("lapsed", 1, 1, 1 / 4, 1, 1 / 4, 1),
        # Of the three rows that are silent for 2 days, of which one stays away, a third has a place.
        ("at_risk_or_lapsed", 3, 2 / 3, 2 / 4, (2 + 1 / 3) / 3, (2 + 1 / 3) / 4, 6 / 7),
    ],
)
def test_warnings_stand_beside_as_many_who_were_silent_longest(
    warned: Document,
    warning: str,
    alarms: int,
    precision: float,
    recall: float,
    recency_precision: float,
    recency_recall: float,
    ratio: float,
) -> None:
    """Oracle: counted by hand."""
    found = warned["warned"][warning]
    assert (found["customer_days"], found["alarms"]) == (7, alarms)
    figures = (found["base_rate"], found["precision"], found["recall"], found["recall_ratio"])
    assert figures == pytest.approx((4 / 7, precision, recall, ratio), abs=1e-6)
    beside = found["recency"]
    assert (beside["precision"], beside["recall"]) == pytest.approx(
        (recency_precision, recency_recall), abs=1e-6
    )


def test_rows_that_are_silent_for_45_days_are_counted() -> None:
    """On day 100: silent for 44 days, for 45 (two, of whom one stays away), and for 60, which is the window."""
    buyers = {"a": [56], "b": [55], "c": [40], "d": [55, 120]}
    standing = changes("lifecycle", **{name: [(1.0, "active")] for name in buyers})
    panel = live_through(standing, model(), *history(buyers, 100, 160), 60)["panel"]
    assert (panel["count"], panel["customer_days"], panel["stayed_away"]) == (1, 3, 2)
    figures = [panel[f"{name}_of_recency_45"] for name in ("alarms", "precision", "recall")]
    assert figures == [2, 0.5, 0.5]


def test_intervals_are_those_of_resampled_customers() -> None:
    """Oracle: each draw's rows written out, as often as their customer was drawn, and counted in plain Python."""
    _, end = history(WARNED_BUYERS, 100, 124)
    lifecycle = moves_of(WARNED, end.customer_ids)["lifecycle"]
    days = range(FIRST_DAY + 100, FIRST_DAY + 115, 7)
    panels = Panels.of(PurchaseDays.of(end), lifecycle, len(end), days, 10)
    found = warnings_beside_recency(panels)["at_risk_or_lapsed"]
    recalls, ratios = [], []
    for drawn in draws(4):
        rows = [
            (int(silent), bool(away), rank in (2, 3))
            for at, customer in enumerate(np.unique(panels.customer))
            for customer_of, silent, away, rank in zip(
                panels.customer, panels.recency_days, panels.stays_away, panels.lifecycle, strict=True
            )
            for _ in range(int(drawn[at]))
            if customer_of == customer
        ]
        positives = sum(away for _, away, _ in rows)
        alarms = sum(alarm for _, _, alarm in rows)
        hits = sum(alarm and away for _, away, alarm in rows)
        places, beside = float(alarms), 0.0
        for silent in sorted({row[0] for row in rows}, reverse=True):
            level = [away for of_row, away, _ in rows if of_row == silent]
            taken = min(places, len(level))
            beside += taken * sum(level) / len(level)
            places -= taken
        recalls.append(hits / positives if positives else np.nan)
        ratios.append(hits / beside if beside else np.nan)
    assert found["recall_interval"] == pytest.approx(np.nanquantile(recalls, [0.025, 0.975]), abs=1e-6)
    defined = np.isfinite(ratios).mean()
    expected = np.nanquantile(ratios, [0.025, 0.975]) if defined >= 0.9 else None
    assert found["recall_ratio_interval"] == (None if expected is None else pytest.approx(expected, abs=1e-6))
    assert found["recall_interval"][0] < found["recall_interval"][1]


def draws(customers: int) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """How often each customer is drawn, in each resample."""
    drawn: list[np.ndarray[Any, np.dtype[np.float64]]] = []

    def note(weights: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        drawn.append(weights)
        return np.zeros(1)

    resampled(customers, note)
    return drawn


def test_an_interval_of_a_mean_is_the_usual_one() -> None:
    """Oracle: mean ± 1.96 standard errors; each draw has as many customers as there are."""
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    bounds = interval(
        resampled(400, lambda weights: np.array([(weights * values).sum() / weights.sum()]))[:, 0]
    )
    error = values.std() / 20
    assert bounds == pytest.approx([values.mean() - 1.96 * error, values.mean() + 1.96 * error], abs=0.05)
    assert {float(drawn.sum()) for drawn in draws(7)} == {7.0}
    assert len(draws(7)) == RESAMPLES


SILENT_BUYERS = {
    "s1": [80, 90, 100],
    "s2": [85, 95, 110],
    "s3": [1, 2, 130],
    "s4": [99, 100, 105, 140, 199],
    "s5": [100, 101, 165],
    "s6": [97, 98, 101, 102],
}
SILENT = changes(
    "lifecycle",
    s1=[(80.5, "new"), (105.0, "active"), (120.0, "at_risk"), (130.0, "lapsed")],
    s2=[(85.5, "active"), (112.1, "at_risk"), (112.2, "active"), (154.0, "at_risk")],
    s3=[(1.5, "active"), (175.0, "at_risk")],
    s4=[(99.5, "active"), (104.0, "lapsed"), (105.5, "at_risk"), (140.5, "active")],
    s5=[(100.5, "active"), (150.0, "at_risk"), (165.0, "lapsed"), (165.5, "at_risk")],
    s6=[(97.5, "active"), (102.0, "at_risk")],
)


@pytest.fixture(scope="module")
def silences() -> Document:
    """A window of 60 days from day 100 to 200.

    Silences after a third purchase day or a later one: s1 from 100 (lasts; warned of on its day 20), s2 from 110
    (lasts; warned of at the end of day 44), s3 from 130 (lasts; warned of on day 45), s4 from 105 (warned of from day 1
    on, ends on 35) and from 140 (ends on 59), s6 from 101 (ends on day 1, that of the warning) and from 102 (lasts;
    warned of from day 1 on).
    """
    found: Document = live_through(SILENT, model(), *history(SILENT_BUYERS, 100, 200), 60)["silences"]
    return found


def test_silences_that_last_are_counted_and_whether_they_were_warned_of_early(silences: Document) -> None:
    """7 silences, 4 of which last; 4 early warnings, 3 of which come true; the first ones on days 1, 20 and 44."""
    counts = ("silences", "customers", "lapsers", "warned_early", "lapsers_warned_early")
    assert [silences[name] for name in counts] == [7, 5, 4, 4, 3]
    figures = [silences[name] for name in ("base_rate", "warned_share", "precision")]
    assert figures == pytest.approx([4 / 7, 3 / 4, 3 / 4], abs=1e-6)
    assert silences["days_of_lead"] == 60 - 20
    low, high = silences["warned_share_interval"]
    assert low < 0.75 < high


def test_purchase_days_before_those_known_in_detail_are_counted() -> None:
    """Of days 0, 1 and 900 only the last is known in detail; it is the third."""
    (snapshot,) = snapshots(orders({"c": [(0, 10.0), (1, 10.0), (900, 10.0)]}), 901)
    found = PurchaseDays.of(snapshot)
    assert (found.day.tolist(), found.number.tolist()) == ([FIRST_DAY + 900], [3])


def test_warnings_in_silences_that_end_within_the_window_are_false_alarms(silences: Document) -> None:
    """Of s4 on day 104 and s6 on 102; those of s5 end too late, and to rise to `at_risk` warns of nothing.

    Six customers for 100 days.
    """
    assert silences["false_alarms"] == 2
    assert silences["customer_years"] == pytest.approx(600 / 365, abs=1e-6)
    assert silences["false_alarms_per_customer_year"] == pytest.approx(2 / (600 / 365), abs=1e-6)


def test_a_window_longer_than_the_holdout_says_nothing_of_warnings() -> None:
    """With the reason; the rest is told."""
    found = live_through(SILENT, model(), *history(SILENT_BUYERS, 100, 130), 60)
    assert found["reason"] == "the holdout of 30 days is shorter than the window of 60 days"
    assert found["panel"] is found["warned"] is found["silences"] is None
    assert found["there_and_back"]["lifecycle"]["customer_years"] > 0
    written(found)


def test_without_changes_nobody_has_a_standing_and_nothing_is_told_of_warnings() -> None:
    """And where there is nobody at all; no exception, no NaN."""
    found = live_through([], model(), *history(SILENT_BUYERS, 100, 200), 60)
    assert found["reason"] == "nobody with a standing bought in the 60 days before a panel"
    assert found["warned"] is None
    assert found["verdicts"] == []
    written([found, live_through([], model(), *history({}, 100, 200), 60)])


CUT, END = "2024-06-30", "2024-12-31"


def spender(customer_id: str, when: str, total: int, later: tuple[str, str] | None) -> list[Any]:
    """A customer with one order before the cut and one after it, of a total and its cost."""
    made = [order(when, f"{total}.00", f"first {customer_id}", customer_id=customer_id)]
    if later is not None:
        total_later, cost = later
        made.append(
            order(
                "2024-10-01", total_later, f"later {customer_id}", customer_id=customer_id, cost_of_goods=cost
            )
        )
    return made


SPENDERS = [
    *spender("a", "2024-05-11", 500, ("10.00", "0.00")),
    *spender("b", "2024-05-21", 300, ("40.00", "30.00")),
    *spender("c", "2024-06-25", 50, None),
    *spender("d", "2024-06-20", 100, ("50.00", "20.00")),
    order("2024-08-01", "900.00", "newcomer", customer_id="new"),
]


def standings_at_the_cut(**of_customers: str) -> list[ChangeDocument]:
    at = day("2024-06-01") - FIRST_DAY
    dimension = {"high": "segment", "strategic": "tier"}
    return [
        change
        for customer_id, standing in of_customers.items()
        for change in changes(
            dimension[standing],
            **{customer_id: [(at, standing), (at + 40, "low" if standing == "high" else "field")]},
        )
    ]


def test_what_the_top_brings_stands_beside_as_many_by_plain_rules() -> None:
    """Later revenue 10, 40, 0 and 50, margin 10, 10, 0 and 30; b and c are strategic at the cut, d is high.

    The largest revenue of last year is that of a and b. RFM is 212, 312, 511 and 412 with the cuts below: the two of
    7 are c and d, of whom d had more revenue. Lifetime value is the model's at the cut. A newcomer's revenue is
    nobody's.
    """
    rules = model(rfm={"order_count_365d": [1, 2, 3, 4], "revenue_365d": [60, 1000, 2000, 3000]})
    cut, end = snapshots_on(SPENDERS, CUT, END)
    made = standings_at_the_cut(b="strategic", c="strategic", d="high")
    capture = live_through(made, rules, cut, end, 90)["capture"]
    top = capture["strategic"]
    assert (top["dimension"], top["customers"], top["customers_share"]) == ("tier", 2, 0.5)
    assert (top["revenue_share"], top["margin_share"]) == (0.4, 0.2)
    assert top["by_last_years_revenue"] == {"revenue_share": 0.5, "margin_share": 0.4}
    scored = score(cut.features(rules), rules)
    assert scored.rfm.tolist() == [212, 312, 511, 412]
    assert top["by_rfm"] == {"revenue_share": 0.5, "margin_share": 0.6}
    later = {"a": 10, "b": 40, "c": 0, "d": 50}
    values = dict(zip(cut.customer_ids, scored.customer_lifetime_value_365d.tolist(), strict=True))
    most = sorted(later, key=lambda customer_id: (-values[customer_id], customer_id))[:2]
    assert top["by_lifetime_value"]["revenue_share"] == sum(later[customer_id] for customer_id in most) / 100
    assert capture["high"]["by_lifetime_value"]["revenue_share"] == later[most[0]] / 100
    assert top["ratio_to_last_years_revenue"] == 0.8
    assert capture["high"]["ratio_to_last_years_revenue"] == 5.0
    assert capture["high"]["revenue_share"] == capture["high"]["by_rfm"]["revenue_share"] == 0.5


def test_the_interval_of_what_the_top_brings_is_that_of_resampled_customers() -> None:
    """Oracle: each draw's customers written out, sorted by last year's revenue, and added up in plain Python."""
    cut, end = snapshots_on(SPENDERS, CUT, END)
    made = standings_at_the_cut(b="strategic", c="strategic")
    capture = live_through(made, model(), cut, end, 90)["capture"]
    earlier, later = [500, 300, 50, 100], [10, 40, 0, 50]
    ratios = []
    for drawn in draws(4):
        people = [at for at in range(4) for _ in range(int(drawn[at]))]
        chosen = [at for at in people if at in (1, 2)]
        most = sorted(people, key=lambda at: -earlier[at])[: len(chosen)]
        usual = sum(later[at] for at in most)
        ratios.append(sum(later[at] for at in chosen) / usual if usual else np.nan)
    expected = np.nanquantile(ratios, [0.025, 0.975]) if np.isfinite(ratios).mean() >= 0.9 else None
    found = capture["strategic"]["ratio_to_last_years_revenue_interval"]
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-6))
    assert capture["high"]["customers"] == 0
    assert capture["high"]["ratio_to_last_years_revenue"] is None


TIERS = changes(
    "tier",
    a=[(50, "field"), (110, "named"), (140, "field"), (171, "named")],
    b=[(150, "field"), (160, "named"), (165, "strategic"), (170, "field")],
    c=[(50, "field"), (95, "named"), (105, "field")],
    d=[(100, "field"), (120, None), (125, "field")],
)


def test_a_change_is_taken_back_if_its_standing_returns_within_30_days() -> None:
    """Of a from `field` on day 110, back after 30 days, and of b on 160, back by way of another: two in 350 days.

    Not that of a from `named` on 140, back after 31; not that of c, before the cut; nor of d, who left and entered.
    Each of them is there from day 100 on, but b from 150.
    """
    found = there_and_back(moves_of(TIERS, "abcd")["tier"], 4, FIRST_DAY + 100, FIRST_DAY + 200)
    assert (found["changes"], found["there_and_back"]) == (7, 2)
    assert found["customer_years"] == pytest.approx(350 / 365, abs=1e-6)
    assert found["per_customer_year"] == pytest.approx(2 / (350 / 365), abs=1e-6)
    years, counts = np.array([100, 50, 100, 100]) / 365, np.array([1, 1, 0, 0])
    rates = [(counts * drawn).sum() / (years * drawn).sum() for drawn in draws(4)]
    expected = np.quantile(rates, [0.025, 0.975])
    assert found["per_customer_year_interval"] == pytest.approx(expected, abs=1e-6)


def told(
    recall: float,
    plain: float,
    ratio: float | None,
    high: float,
    long_silent: tuple[float, float] = (0.0, 0.0),
) -> Document:
    """A report of which only the verdicts are wanted; `long_silent` are recall and precision of 45 days."""
    warned_of = {
        "recall": recall,
        "precision": 0.2,
        "recency": {"recall": plain},
        "recall_ratio_interval": [0.1, high],
    }
    capture = {"ratio_to_last_years_revenue": ratio, "ratio_to_last_years_revenue_interval": [0.5, high]}
    return {
        "window_days": 90,
        "period": {"days": 120},
        "panel": {"recall_of_recency_45": long_silent[0], "precision_of_recency_45": long_silent[1]},
        "warned": {"at_risk_or_lapsed": warned_of},
        "capture": {"strategic": capture},
    }


def test_a_verdict_is_told_where_a_plain_rule_did_better() -> None:
    """In sentences, and with the doubt where the interval of the ratio reaches 1."""
    warning = (
        "Of the customers who stayed away 90 days, at_risk and lapsed named 12% beforehand; simply taking those silent "
        "longest would have named 30% with as many warnings."
    )
    capture = (
        "The customers in strategic brought 8% less in the next 120 days than as many customers with the highest "
        "revenue of the last year."
    )
    assert verdicts_on(told(0.12, 0.3, 0.92, 0.99)) == [warning, capture]
    doubt = " The difference may be chance."
    assert verdicts_on(told(0.12, 0.3, 0.92, 1.2)) == [warning + doubt, capture + doubt]


def test_warnings_that_are_fewer_and_no_better_than_45_days_of_silence_are_told_of() -> None:
    """In place of the verdict on as many; not if the 45 days would be wrong more often."""
    verdict = (
        "Of the customers who stayed away 90 days, at_risk and lapsed named 1% beforehand; simply taking everyone "
        "silent for 45 days would have named 41%, and 26% of those taken did stay away (of those named: 20%)."
    )
    assert verdicts_on(told(0.01, 0.02, 1.0, 2.0, (0.41, 0.26))) == [verdict]
    (other,) = verdicts_on(told(0.01, 0.02, 1.0, 2.0, (0.41, 0.19)))
    assert other.endswith("would have named 2% with as many warnings. The difference may be chance.")


@pytest.mark.parametrize(
    ("recall", "plain", "ratio"), [(0.3, 0.12, 1.1), (0.3, 0.3, 1.0), (0.301, 0.303, 0.997)]
)
def test_no_verdict_is_told_where_the_stream_did_no_worse(recall: float, plain: float, ratio: float) -> None:
    """Nor where both would read the same."""
    assert verdicts_on(told(recall, plain, ratio, 0.99, (0.25, 0.9))) == []


def test_a_stream_that_warns_of_nobody_is_told_of() -> None:
    """There is nothing then that could be held against as many; 45 days of silence would have named the one."""
    buyers = {"a": [50], "b": [99, 120]}
    nobody = changes("lifecycle", **{name: [(1.0, "active")] for name in buyers})
    found = live_through(nobody, model(), *history(buyers, 100, 160), 60)
    assert found["verdicts"] == [
        "Of the customers who stayed away 60 days, at_risk and lapsed named 0% beforehand; simply taking everyone "
        "silent for 45 days would have named 100%, and 100% of those taken did stay away."
    ]
    assert found["warnings"] == found["verdicts"]
    both = found["warned"]["at_risk_or_lapsed"]
    assert (both["alarms"], both["recall"], both["precision"], both["recall_ratio"]) == (0, 0.0, None, None)


@pytest.mark.parametrize(("holdout_days", "days"), [(273, 90), (90, 90), (40, 40)])
def test_the_window_is_90_days_or_the_holdout_if_that_is_shorter(holdout_days: int, days: int) -> None:
    """Unless the model has one of its own."""
    assert (getattr(model().lifecycle, "window_days", None) or days) == window_of(model(), holdout_days)


def test_the_order_of_customers_changes_nothing(warned: Document) -> None:
    """Each customer's changes are in their order; whose come first does not matter."""
    backwards = [
        change for name in ("e", "d", "c", "b", "a") for change in WARNED if change["customer_id"] == name
    ]
    assert written(live_through(backwards, model(), *history(WARNED_BUYERS, 100, 124), 10)) == written(warned)
