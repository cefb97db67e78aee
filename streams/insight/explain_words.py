"""One customer in plain sentences, from the document that `explain --json` prints."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from enrichment.insight.actions import MONTHLY_DAYS, WEEKLY_DAYS
from streams.reports.metric_words import METRIC_WORDS

_MONEY_METRICS: Final = frozenset({"average_order_value_365d", "margin_365d"})
LISTED: Final = 3
"""Changes told in words; JSON has all."""


def words(document: dict[str, Any]) -> list[str]:
    """Why the customer stands where they stand, what would move them up, and what that would be worth.

    A sentence each; what begins with a dash belongs to the sentence before it.
    """
    if document["ways_up"] is None:
        allowed = document["profile"]["consents"]["profiling"]
        reason = "nobody has looked at them yet" if allowed else "profiling is not allowed"
        return [f"There is no standing to explain: {reason}."]
    sentences = [_why(dimension, document) for dimension in document["standing"]]
    sentences.append(_value(document["value_in_short"]))
    for dimension, way in document["ways_up"].items():
        sentences += _up(dimension, way, document)
    return sentences + _worth(document)


def _why(dimension: str, document: dict[str, Any]) -> str:
    """The standing, the rule behind it, and what keeps it where the rule says otherwise."""
    standing, hysteresis = document["standing"][dimension], document["hysteresis"]
    current, plain = standing["current"], standing["plain"]
    rule = _RULES[dimension](plain, standing["measured"], standing["thresholds"])
    if current == plain:
        return f"{dimension.capitalize()} {current}: {rule}."
    own = hysteresis.get(dimension, hysteresis)
    points = f"{own['score_margin']:g} points"
    risk, of_lifecycle = (
        f"{_percent(margin)} of risk"
        for margin in (
            hysteresis["churn_risk_margin"],
            hysteresis.get("silence_risk_margin", hysteresis["churn_risk_margin"]),
        )
    )
    margin = {"segment": f"{points}, or {risk},", "tier": points, "lifecycle": of_lifecycle}[dimension]
    kept = {
        "hysteresis": f"a threshold must be passed by {margin} before anyone moves",
        "dwell": f"a standing lasts {own['dwell_days']} days, this one until {standing['may_change_from']}",
        None: "they have not been looked at since",
    }[standing["held_by"]]
    return f"{dimension.capitalize()} {current}, though today's numbers alone would say {plain}, since {rule}; {kept}."


def _segment_rule(plain: str, measured: dict[str, Any], limits: dict[str, Any]) -> str:
    score, risk, potential = (measured[name] for name in ("lifetime_value_score", "churn_risk", "potential"))
    limit = _limit(limits["emerging_potential"])
    eager = f"the potential of {_points(potential)} is at least {limit}"
    if score is None:
        shy = f"the potential of {_points(potential)} is below {limit}"
        return f"there is no order yet, and {eager if plain == 'emerging' else shy}"
    told = f"the lifetime-value score of {_points(score)} is"
    if plain == "high":
        return (
            f"{told} at least {_limit(limits['high'])}, and the risk of no order within a year, {_percent(risk)}, "
            f"is at most {_percent(limits['high_churn_risk_limit'])}"
        )
    if plain == "medium" and score >= limits["high"]:
        return (
            f"{told} at least {_limit(limits['high'])}, but the risk of no order within a year, {_percent(risk)}, "
            f"is above {_percent(limits['high_churn_risk_limit'])}"
        )
    if plain == "medium":
        return f"{told} at least {_limit(limits['medium'])} and below {_limit(limits['high'])}"
    if plain == "emerging":
        return f"{told} below {_limit(limits['medium'])}, but {eager}"
    return f"{told} below {_limit(limits['medium'])}, and the potential of {_points(potential)} below {limit}"


def _tier_rule(plain: str, measured: dict[str, Any], limits: dict[str, Any]) -> str:
    names = list(limits)
    if "expected_margin" in measured:
        margin, points = measured["expected_margin"], measured["points"]
        told = (
            f"the margin expected of the next 365 days, less cost to serve, is {_money(margin)}, which has "
            f"{_points(points)} points,"
        )
    else:
        ((name, points),) = measured.items()
        told = f"the {name} of {_points(points)} is"
    if plain not in limits:
        return f"{told} below {_limit(limits['field'])}"
    above = names.index(plain) - 1
    if above < 0:
        return f"{told} at least {_limit(limits[plain])}"
    return f"{told} at least {_limit(limits[plain])}, and below the {_limit(limits[names[above]])} of {names[above]}"


def _lifecycle_rule(plain: str, measured: dict[str, Any], limits: dict[str, Any]) -> str:
    if plain == "prospect":
        return "there is no order yet"
    if plain == "new":
        return f"the first order is {measured['tenure_days']} days ago, at most {limits['new_days']}"
    within, kind = "a year", "churn_risk"
    if "window_days" in limits:
        within, kind = f"{limits['window_days']} days", "silence_risk"
    told = f"the risk of no order within {within} is {_percent(measured[kind])}"
    if plain == "lapsed":
        return f"{told}, at least {_percent(limits[f'lapsed_{kind}'])}"
    at_risk = _percent(limits[f"at_risk_{kind}"])
    return f"{told}, at least {at_risk}" if plain == "at_risk" else f"{told}, below {at_risk}"


_RULES: Final = {"segment": _segment_rule, "tier": _tier_rule, "lifecycle": _lifecycle_rule}


def _value(short: dict[str, Any]) -> str:
    carried = _listed([f"{_metric(part)} ({_points(part['adds'])})" for part in short["carried_by"]])
    lacking = _listed([f"{_metric(part)} ({_points(part['lacks'])})" for part in short["held_back_by"]])
    told = (
        f"Of the value of {_points(short['value'])}, most points come from {carried}"
        if carried
        else (f"The value is {_points(short['value'])}")
    )
    return f"{told}; most are missing in {lacking}." if lacking else f"{told}."


def _metric(part: dict[str, Any]) -> str:
    words_of = METRIC_WORDS[part["metric"]]
    shown = "not known" if part["value"] is None else _number(part["value"])
    tenths = part["above_tenths"]
    rank = f", more than {tenths} in 10 customers have" if tenths else ""
    return f"{words_of}: {shown}{rank}"


def _up(dimension: str, way: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """What would be enough for a better standing: by itself, by one metric, by records."""
    if way["at_the_top"]:
        return []
    from_day = document["standing"][dimension]["may_change_from"]
    if way["moves_up_anyway"] is not None:
        return [f"The {dimension} will be {way['moves_up_anyway']} from {from_day} on, if nothing changes."]
    changes = [f"- {_change(change)}: {change['standing']}" for change in way["changes"][:LISTED]]
    actions = [f"- {_action(action, way['current'])}" for action in _told_actions(way["actions"])]
    if not changes and not actions:
        return [
            f"A better {dimension} would take several things together: no single one that was tried is enough."
        ]
    begin = f"For a better {dimension} than {way['current']}"
    if from_day > document["profile"]["as_of"][: len(from_day)]:
        begin += f", on {from_day} at the earliest"
    return [f"{begin}, each of these alone would be enough:", *changes, *actions]


def _change(change: dict[str, Any]) -> str:
    """One metric as it would have to be today, beside what it is."""
    metric, to, now = change["metric"], change["to"], change["from"]
    if metric in _MONEY_METRICS:
        told = f"{_money(to)} instead of {_money(now)}"
    elif metric == "cost_to_serve_ratio":
        told = f"{_percent(to)} instead of {_percent(now)} of revenue"
    else:
        told = f"{_number(to)} instead of {_number(now)}"
    return f"{METRIC_WORDS[metric]}: {told} ({change['meaning']})"


def _told_actions(actions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each sort one: interactions that the customer is used to before others, answers in words before numbers."""
    ranked = sorted(
        actions,
        key=lambda action: (
            not action.get("usual", True),
            not isinstance(action.get("answer", ""), str),
            action["times"],
        ),
    )
    told: dict[str, dict[str, Any]] = {}
    for action in ranked:
        told.setdefault(action["action"], action)
    return [told[name] for name in ("order", "engagement", "consent", "declare") if name in told]


def _action(action: dict[str, Any], current: str) -> str:
    """So many records, and the standing that they lead to, on the day of the last one."""
    times = action["times"]
    often = {MONTHLY_DAYS: "a month", WEEKLY_DAYS: "a week", None: ""}[action["every_days"]]
    if action["action"] == "order":
        size = (
            "of their average value"
            if action["own_average"]
            else "of the value that the model expects of anyone"
        )
        amount = f"{Decimal(action['amount']):,}"
        told = f"one order {often}, {size}, {amount}" if times > 1 else f"one order {size}, {amount}"
    elif action["action"] == "engagement":
        told = f"one {action['kind']} {often}".rstrip()
    elif action["action"] == "consent":
        told = f"consent to {action['channel']}"
    else:
        told = f"an answer that tells of intent, such as {action['key']} {action['answer']}"
    if times == 1:
        return f"{told}, today: {action['standing']}"
    without = action["without"]
    beside = "" if without in (None, current) else f", where without it they would be {without}"
    return f"{told}, {times} times: {action['standing']} on {action['until']}{beside}"


def _worth(document: dict[str, Any]) -> list[str]:
    """By how much customers of better segments differ."""
    worth, current = document["worth"], document["standing"]["segment"]["current"]
    if worth is None or not worth["differences"]:
        return []
    segments = worth["segments"]
    told = [
        f"{name} {_money(segments[name]['mean'])} (+{_money(by)})"
        if by >= 0
        else f"{name} {_money(segments[name]['mean'])} ({_money(by)})"
        for name, by in worth["differences"].items()
    ]
    what = (
        f"brought on average in the {worth['days']} days after the calibration's cut, in margin"
        if worth["basis"] == "later_margin"
        else f"are expected on average to bring in the next {worth['days']} days, in margin"
    )
    counts = sum(part["customers"] for part in segments.values())
    return [
        f"What customers of a segment {what} ({counts:,} customers with a figure): {current} "
        f"{_money(segments[current]['mean'])}; {', '.join(told)}. These are differences between "
        "customers, not the effect of moving one."
    ]


def _listed(parts: Sequence[str]) -> str:
    return "; ".join(parts)


def _points(points: float) -> str:
    return f"{points:.2f}".rstrip("0").rstrip(".")


def _limit(points: float) -> str:
    """All decimals that decide, which are six at most."""
    return f"{points:.6f}".rstrip("0").rstrip(".")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".rstrip("0").rstrip(".") + "%"


def _number(value: float | int | None) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def _money(amount: float) -> str:
    return f"{Decimal(str(amount)).quantize(Decimal('0.01'), ROUND_HALF_EVEN):,}"
