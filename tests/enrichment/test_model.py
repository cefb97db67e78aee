"""The model file: what is refused, by which key; what makes another model."""

from __future__ import annotations

import copy
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ebbtide.testing.records import DEFAULT_MODEL, model
from enrichment.model import METRIC_GROUPS, METRICS, Model, ModelError, load_model, parse_model


def changed(path: str, value: Any) -> dict[str, Any]:
    """The built-in model with one value replaced, or removed where it is `...`."""
    document = copy.deepcopy(DEFAULT_MODEL)
    part: Any = document
    *parents, last = path.split(".")
    for key in parents:
        part = part[key]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("name", ..., "name"),
        ("name", "", "name"),
        ("base_currency", "usd", "base_currency"),
        ("cost_ratio", "much", "cost_ratio"),
        ("cost_ratio", True, "cost_ratio"),
        ("cost_ratio", -0.1, "cost_ratio"),
        ("rates", {"EUR": 0}, "rates.EUR"),
        ("rates", {"EUR": float("nan")}, "rates.EUR"),
        ("rates", {"euro": "1.1"}, "rates.euro"),
        ("rates", {"USD": "1.1"}, "rates.USD"),
        ("profiling", "maybe", "profiling"),
        ("engagement.half_life_days", 0, "engagement.half_life_days"),
        ("engagement.half_life_days", float("inf"), "engagement.half_life_days"),
        ("engagement.kinds.opened", {"weight": -1}, "engagement.kinds.opened.weight"),
        ("engagement.kinds.Opened", {"weight": 1}, "engagement.kinds.Opened"),
        ("engagement.kinds.merge", {"weight": 1}, "merge"),
        ("metrics.growth", ..., "growth"),
        ("metrics.glamour", {"weight": 1, "missing": 0, "breakpoints": [[0, 0]]}, "glamour"),
        ("metrics.growth.breakpoints", [[1, 0], [1, 10]], "metrics.growth.breakpoints"),
        ("metrics.growth.breakpoints", [[1, 101]], "metrics.growth.breakpoints"),
        ("metrics.growth.weight", float("inf"), "metrics.growth.weight"),
        ("groups.business", ..., "groups"),
        ("groups.cost", -1, "groups.cost"),
        ("lifetime_value.purchases.r", 0, "lifetime_value.purchases"),
        ("lifetime_value.purchases.s", float("nan"), "lifetime_value.purchases"),
        ("lifetime_value.purchases.family", "guess", "lifetime_value.purchases"),
        ("lifetime_value.time_unit", "fortnight", "lifetime_value.time_unit"),
        ("lifetime_value.spend.q", 1, "lifetime_value.spend.q"),
        ("rfm.revenue_365d", [4, 3, 2, 1], "rfm.revenue_365d"),
        ("segments.high", 10, "high must not be below medium"),
        ("tiers.by_value.named", 99, "tiers.by_value"),
        ("lifecycle.lapsed_churn_risk", 0.1, "lifecycle"),
        ("hysteresis.dwell_days", -1, "hysteresis.dwell_days"),
        ("lifecycle.window_days", 90, "window_days needs at_risk_silence_risk"),
        ("lifecycle.at_risk_silence_risk", 0.5, "need window_days"),
        ("hysteresis.silence_risk_margin", 0.1, "silence_risk_margin needs lifecycle.window_days"),
        ("reactivation.delay_days.high", 0, "reactivation.delay_days.high"),
        ("reactivation.delay_days.low", ..., "missing low"),
        ("reactivation.control_share", 1.5, "reactivation.control_share"),
        ("surprise", 1, "surprise"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_with_the_key_at_fault(
    path: str, value: Any, named: str
) -> None:
    """In one line that names the file too."""
    with pytest.raises(ModelError) as caught:
        parse_model(yaml.safe_dump(changed(path, value)), "m.yaml")
    message = str(caught.value)
    assert message.startswith("model m.yaml: ")
    assert named in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("path", "value", "typo", "meant"),
    [
        ("cost_ration", 0.7, "cost_ration", "cost_ratio"),
        ("segments.hihg", 50, "segments.hihg", "high"),
        ("metrics.recency_day", {"weight": 1}, "metrics.recency_day", "recency_days"),
        ("metrics.growth.wieght", 1, "metrics.growth.wieght", "weight"),
        ("groups.buisness", 1, "groups.buisness", "business"),
        ("lifetime_value.purchases.alhpa", 1, "lifetime_value.purchases.pareto_nbd.alhpa", "alpha"),
        ("reactivation.delay_days.meduim", 1, "reactivation.delay_days.meduim", "medium"),
        ("engagement.kinds.opened.unit_costs", 1, "engagement.kinds.opened.unit_costs", "unit_cost"),
        ("tiers.by_value.strategik", 1, "tiers.by_value.strategik", "strategic"),
    ],
)
def test_a_misspelt_key_is_named_with_its_line_and_the_key_that_was_meant(
    path: str, value: Any, typo: str, meant: str
) -> None:
    """At every depth of the file."""
    text = yaml.safe_dump(changed(path, value))
    name = path.rpartition(".")[2]
    (line,) = [
        number for number, said in enumerate(text.splitlines(), 1) if said.strip().startswith(f"{name}:")
    ]
    with pytest.raises(ModelError) as caught:
        parse_model(text, "m.yaml")
    assert str(caught.value) == f"model m.yaml: line {line}: {typo}: no such key; did you mean {meant}?"


def test_a_key_like_no_other_is_refused_with_all_names() -> None:
    """Where no name is near, all that are allowed are listed."""
    with pytest.raises(ModelError, match="surprise: no such key; allowed are base_currency, calibration, "):
        parse_model(yaml.safe_dump(changed("surprise", 1)), "m.yaml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: a\nversion: b\nname: c\n", "line 3: name comes twice, first in line 1"),
        ("segments:\n  high: 1\n  'high': 2\n", "line 3: high comes twice, first in line 2"),
        ("groups: {cost: 1, cost: 2}\n", "line 1: cost comes twice, first in line 1"),
        ("rfm: &cuts\n  - {a: 1,\n     a: 2}\ntiers: *cuts\n", "line 3: a comes twice, first in line 2"),
    ],
)
def test_a_key_that_comes_twice_is_refused(text: str, problem: str) -> None:
    """The last one would win without a word."""
    with pytest.raises(ModelError) as caught:
        parse_model(text, "m.yaml")
    assert str(caught.value) == f"model m.yaml: {problem}"


def test_an_anchor_within_itself_is_no_endless_file() -> None:
    """YAML allows it; no model may hold it."""
    with pytest.raises(ModelError, match=r"model m\.yaml: line 1: a: no such key"):
        parse_model("a: &a [*a]", "m.yaml")


@pytest.mark.parametrize("text", ["{", "- 1", "", "a: b: c", "\t"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    """With the file's name."""
    with pytest.raises(ModelError, match=r"model m\.yaml: "):
        parse_model(text, "m.yaml")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """Missing, a folder, or no UTF-8."""
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe")
    for path in (tmp_path / "missing.yaml", tmp_path, binary):
        with pytest.raises(ModelError, match="cannot be read"):
            load_model(path)


def test_the_built_in_model_needs_no_file() -> None:
    """Base USD, no other rates."""
    built_in = load_model()
    assert (built_in.name, built_in.base_currency, built_in.rates) == ("default", "USD", {})
    assert built_in.fingerprint == model().fingerprint


def leaves(document: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of all numbers."""
    if isinstance(document, dict):
        return [found for key, part in document.items() for found in leaves(part, (*path, key))]
    if isinstance(document, list):
        return [found for at, part in enumerate(document) for found in leaves(part, (*path, at))]
    is_number = isinstance(document, (int, float)) and not isinstance(document, bool)
    return [path] if is_number or path in {("cost_ratio",), ("cost_per_refund",)} else []


def test_any_other_number_is_another_model() -> None:
    """The fingerprint changes with each number of the file, by however little."""
    built_in = load_model().fingerprint
    fingerprints = {built_in}
    numbers = leaves(DEFAULT_MODEL)
    tried = 0
    for path in numbers:
        document = copy.deepcopy(DEFAULT_MODEL)
        part: Any = document
        for key in path[:-1]:
            part = part[key]
        was = float(part[path[-1]])
        part[path[-1]] = (
            int(was) + 1 if "days" in str(path[-1]) or path[-1] == "dwell_days" else was * 0.999 + 1e-6
        )
        try:
            other = Model.model_validate(document)
        except ValueError:
            continue
        tried += 1
        fingerprints.add(other.fingerprint)
    assert tried > 0.8 * len(numbers)
    for own in ("segment", "tier"):
        as_before = {name: DEFAULT_MODEL["hysteresis"][name] for name in ("score_margin", "dwell_days")}
        fingerprints.add(model(hysteresis={own: as_before}).fingerprint)
        tried += 1
    assert len(fingerprints) == tried + 1


def test_rates_are_exact_however_yaml_reads_them() -> None:
    """1.0837 as text or as a number is 10837/10000; the base currency's own rate is 1."""
    for rate in ("1.0837", 1.0837):
        rates = model(rates={"EUR": rate, "USD": 1}).rate_by_currency
        assert rates == {"EUR": Fraction(10_837, 10_000), "USD": Fraction(1)}


def test_another_base_currency_is_refused_where_the_model_holds_rates() -> None:
    """Rates are in base units; without any, only the currency changes."""
    with pytest.raises(ModelError, match="EUR"):
        model(rates={"CHF": "1.1"}).with_base_currency("EUR")
    with pytest.raises(ModelError, match="base_currency"):
        model().with_base_currency("euro")
    yen = model().with_base_currency("JPY")
    assert (yen.base_currency, yen.minor_unit_digits) == ("JPY", 0)
    assert yen.fingerprint != model().fingerprint
    assert model().with_base_currency("USD") == model()


def test_weights_are_shares() -> None:
    """Each score, and value, is a mean of its metrics' points."""
    built_in = load_model()
    for group, weights in built_in.group_weights.items():
        assert weights.sum() == pytest.approx(1)
        in_group = [METRIC_GROUPS[metric] == group for metric in METRICS]
        assert not np.any(weights[~np.array(in_group)])
    assert built_in.value_weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("answers", "points"),
    [
        ({"budget": "high"}, 100),
        ({"budget": " HIGH "}, 100),
        ({"budget": 1000}, 40),
        ({"budget": "5500"}, 57.5),
        ({"budget": "plenty"}, 30),
        ({"budget": True}, 30),
        ({"growth_plans": True}, 90),
        ({"growth_plans": False}, 0),
        ({"growth_plans": "nan"}, 40),
    ],
)
def test_declared_answers_become_points(answers: dict[str, Any], points: float) -> None:
    """By name, else by size where the model has breakpoints, else as any other answer."""
    ((key, answer),) = answers.items()
    assert load_model().declared[key].points(answer) == points


WINDOW: dict[str, Any] = {"window_days": 90, "at_risk_silence_risk": 0.2, "lapsed_silence_risk": 0.5}


@pytest.mark.parametrize(
    ("lifecycle", "margin", "named"),
    [
        ({**WINDOW, "lapsed_silence_risk": 0.1}, 0.1, "lapsed_silence_risk must not be below"),
        ({**WINDOW, "window_days": 0}, 0.1, "lifecycle.window_days"),
        (WINDOW, None, "lifecycle.window_days needs silence_risk_margin"),
    ],
)
def test_a_window_that_cannot_be_used_is_refused(
    lifecycle: dict[str, Any], margin: float | None, named: str
) -> None:
    """Limits in order, a window of at least a day, and a margin of its own."""
    document = changed("hysteresis.silence_risk_margin", margin)
    document["lifecycle"] |= lifecycle
    with pytest.raises(ModelError, match=named):
        parse_model(yaml.safe_dump(document), "m.yaml")


def test_a_model_without_a_window_is_the_model_that_it_was() -> None:
    """The built-in model's fingerprint, as it was before there were windows: nobody is evaluated anew."""
    assert load_model().fingerprint == "2ad1ed42a69b4ea3"


def test_a_window_and_each_of_its_numbers_make_another_model() -> None:
    """They decide."""
    numbers: list[dict[str, Any]] = [
        {},
        {"window_days": 91},
        {"at_risk_silence_risk": 0.21},
        {"lapsed_silence_risk": 0.6},
    ]
    models = [model(lifecycle={**WINDOW, **n}, hysteresis={"silence_risk_margin": 0.1}) for n in numbers]
    models.append(model(lifecycle=WINDOW, hysteresis={"silence_risk_margin": 0.2}))
    assert len({one.fingerprint for one in [*models, model()]}) == 6
