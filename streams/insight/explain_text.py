"""The explanation of one customer in words, from the document that `explain --json` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from streams.insight.explain_words import words

WIDTH = 110


def explanation_text(document: dict[str, Any]) -> str:
    """Plain text: who the customer is, where they stand and why, and each score with its metrics."""
    profile = document["profile"]
    lines = [
        *_heading(document),
        "",
        *_in_words(document),
        "",
        *_standing(document),
        "",
        *_scores(document["scores"]),
    ]
    lines += ["", *_pairs("Aggregates", profile["aggregates"]), "", *_pairs("Traits", profile["traits"])]
    return "\n".join(lines)


def _heading(document: dict[str, Any]) -> list[str]:
    profile, model = document["profile"], document["profile"]["model"]
    consents = profile["consents"]
    granted = [purpose for purpose, allowed in consents.items() if allowed and purpose != "profiling"]
    pending, due_on = document["pending_trigger"], document["due_on"]
    lines = [
        f"Customer {profile['customer_id']}, as of {profile['as_of']}",
        f"  {profile['sequence']} changes so far in life {document['life']}; partition {document['partition']}; "
        f"model {model['name']} {model['version']}",
        f"  may be reached by: {', '.join(granted) or 'no channel'}; profiling is "
        f"{'allowed' if consents['profiling'] else 'not allowed: no scores, traits or standing'}",
        "  no re-activation is pending"
        if pending is None
        else f"  a re-activation is pending, and due on {pending['due_on']} (change {pending['change_id']})",
    ]
    if due_on is not None:
        lines.append(f"  if nothing else comes, looked at again on {due_on}")
    if document["decided_by_another_model"]:
        lines.append("  the standing was decided by another model than the scores below")
    return lines


def _in_words(document: dict[str, Any]) -> list[str]:
    lines = ["In words"]
    for sentence in words(document):
        indent = "    " if sentence.startswith("- ") else "  "
        lines += textwrap.wrap(sentence, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ")
    return lines


def _standing(document: dict[str, Any]) -> list[str]:
    hysteresis = document["hysteresis"]
    score_margin, risk_margin = hysteresis["score_margin"], hysteresis["churn_risk_margin"]
    risks = f"{risk_margin:g} of churn risk"
    if "silence_risk_margin" in hysteresis:
        risks += f", or {hysteresis['silence_risk_margin']:g} of silence risk"
    lines = [
        "Standing",
        f"  A threshold must be passed by {score_margin:g} points, or {risks}, and a standing lasts "
        f"{hysteresis['dwell_days']} days at least.",
    ]
    lines += [
        f"  A {dimension} by {own['score_margin']:g} points, and it lasts {own['dwell_days']} days at least."
        for dimension, own in hysteresis.items()
        if isinstance(own, dict)
    ]
    for dimension, standing in document["standing"].items():
        if standing["current"] is None:
            lines.append(f"  {dimension:<10} none")
            continue
        lines.append(
            f"  {dimension:<10} {standing['current']}, {_since(standing)}; the rules say {_rules(standing)}"
        )
        lines.append(
            f"  {'':<10} {_listed(standing['measured'])}; thresholds: {_listed(standing['thresholds'])}"
        )
    moved = document["since_last_change"]
    if moved is not None:
        before, now = moved["previous_scores"]["value"], document["scores"]["value"]["score"]
        lines.append(
            f"  Since the last change, value has moved from {before:g} to {now:g}{_drivers(moved['drivers'])}"
        )
    return [line for long in lines for line in _wrapped(long)]


def _since(standing: dict[str, Any]) -> str:
    if standing["changed_on"] is None:
        return "since the first load"
    return f"since {standing['changed_on']}, may change from {standing['may_change_from']}"


def _rules(standing: dict[str, Any]) -> str:
    if standing["plain"] == standing["harder"] == standing["easier"]:
        return f"{standing['plain']}, with margins too"
    return f"{standing['plain']}; made harder by the margin {standing['harder']}, made easier {standing['easier']}"


def _drivers(drivers: Sequence[dict[str, Any]]) -> str:
    if not drivers:
        return "."
    told = [
        f"{driver['metric']} {_shown(driver['before'])} → {_shown(driver['after'])} ({driver['effect_on_value']:+.1f})"
        for driver in drivers
    ]
    return f": {', '.join(told)}."


def _scores(scores: dict[str, Any]) -> list[str]:
    if scores["value"]["score"] is None:
        return ["Scores", "  none: profiling is not allowed"]
    lines = ["Scores (0 to 100)"]
    for name, part in scores.items():
        lines.append(f"  {name} {part['score']:.2f}")
        lines.append(f"      {'metric':<30}{'value':>14}{'points':>9}{'weight':>9}{'adds':>9}")
        lines += [
            f"      {metric['metric']:<30}{_shown(metric['value']):>14}{metric['points']:>9.2f}"
            f"{metric['weight']:>9.4f}{metric['contribution']:>9.2f}"
            for metric in part["metrics"]
        ]
    return [*lines, "  In value, the metrics of cost add (100 - points) × weight."]


def _pairs(title: str, values: dict[str, Any]) -> list[str]:
    return [
        title,
        *(line for name, value in values.items() for line in _wrapped(f"  {name:<30}{_shown(value)}")),
    ]


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, subsequent_indent=" " * 13, drop_whitespace=True) or [line]


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in values.items())


def _shown(value: Any) -> str:
    """A value as people write it; what is not defined is a dash."""
    if value is None or value in ({}, []):
        return "-"
    if isinstance(value, dict):
        return _listed(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
