"""The compiled core, where it is built: which core computes, and the model as the numbers that it takes.

`kernel/README.md` says what it does. The Python core is the specification, and takes what the compiled one declines.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, cast

import numpy as np

from enrichment.customer.engagement import COUNT_WINDOW_DAYS
from enrichment.customer.validation import Horizons
from enrichment.deciding.reactivation import chance_of_return
from enrichment.lifetime import lifetime_value
from enrichment.lifetime.empirical_hazard import EmpiricalHazard, renewals
from enrichment.lifetime.recalibrated import FEATURES
from enrichment.model import (
    GROUPS,
    METRICS,
    BGNBDParameters,
    EmpiricalParameters,
    MBGCNBDParameters,
    Model,
    ParetoNBDParameters,
    RecalibratedParameters,
)
from enrichment.scoring.scores import HORIZON_DAYS, purchasing_of
from enrichment.scoring.standing import moved
from schemas.profiles import SEGMENTS

Wanted = Literal["auto", "compiled", "python"]
_MOST: Final = 2**62
"""The largest numerator and denominator of a rate that the compiled core takes."""


class KernelError(ValueError):
    """The compiled core cannot be had; the message says why."""


class DeclinedError(ValueError):
    """The compiled core does not take this model or this log; the message says why."""


class Core(NamedTuple):
    """A core: `compiled` is the module of the compiled one, None for the Python core; `reason` says why it is that."""

    compiled: Any | None
    reason: str

    @property
    def name(self) -> str:
        """`compiled` or `python`."""
        return "python" if self.compiled is None else "compiled"


def core_of(wanted: Wanted) -> Core:
    """The core of this name; `auto` is the compiled one where it is built.

    Raises:
        KernelError: The compiled core is asked for and not built.
    """
    if wanted == "python":
        return Core(None, "it was asked for")
    module, why_not = _built()
    if module is None and wanted == "compiled":
        raise KernelError(f"{why_not}; `auto` and `python` do without")
    return Core(module, why_not)


def told() -> str:
    """One line on the compiled core: whether it is there, and if not, why."""
    module, why_not = _built()
    return (
        why_not
        if module is None
        else "the compiled core is built: replays and workers use it, unless EBBTIDE_CORE=python"
    )


@lru_cache(maxsize=1)
def _built() -> tuple[Any | None, str]:
    """The compiled module, or why there is none."""
    try:
        return importlib.import_module("enrichment._kernel"), ""
    except ImportError as error:
        found = isinstance(error, ModuleNotFoundError) and error.name == "enrichment._kernel"
        why = "it is not built (see kernel/README.md)" if found else f"it cannot be imported: {error}"
        return None, f"there is no compiled core here: {why}"


def given_model(model: Model, namespace: str, horizons: Horizons) -> dict[str, Any]:
    """The model as `kernel/src/model.rs` takes it, with numbers that follow from it as the Python core makes them.

    Raises:
        DeclinedError: The model holds something that the compiled core does not know.
    """
    spend, rules, hysteresis = model.lifetime_value.spend, model.reactivation, model.hysteresis
    own_return = rules.own_return
    denominator = math.lcm(*(rate.denominator for rate in model.rate_by_currency.values()))
    currencies = {
        code: (rate.numerator * (denominator // rate.denominator), model.largest_micros_by_currency[code])
        for code, rate in model.rate_by_currency.items()
    }
    ratio = model.cost_ratio_fraction
    unit_costs = [kind.unit_cost_micros for kind in model.engagement.kinds.values()]
    numbers = (denominator, *(rate for rate, _ in currencies.values()), ratio.numerator, ratio.denominator)
    if max(*numbers, *unit_costs, model.cost_per_refund_micros) > _MOST:
        raise DeclinedError("the compiled core takes rates and costs of at most 62 bits")
    ages = np.arange(COUNT_WINDOW_DAYS)
    half_life_days = model.engagement.half_life_days
    return {
        "name": model.name,
        "version": model.version,
        "namespace": namespace,
        "currencies": currencies,
        "rate_denominator": denominator,
        "cost_ratio": (ratio.numerator, ratio.denominator),
        "cost_per_refund_micros": model.cost_per_refund_micros,
        "minor_unit_digits": model.minor_unit_digits,
        "is_opt_in": model.profiling == "opt_in",
        "other_purposes": list(model.other_purposes),
        "kinds": {
            name: (kind.weight, kind.unit_cost_micros) for name, kind in model.engagement.kinds.items()
        },
        "decay_of_sums": np.exp2(-ages / half_life_days).tolist(),
        "decay_of_channels": [2.0 ** (-age / half_life_days) for age in ages.tolist()],
        "declared_weights": {key: part.weight for key, part in model.declared.items()},
        "metrics": list(METRICS),
        "curves": [_lists(model.metrics[name].curve) for name in METRICS],
        "missing": [model.metrics[name].missing for name in METRICS],
        "group_weights": [model.group_weights[group].tolist() for group in GROUPS],
        "value_weights": model.value_weights.tolist(),
        "is_cost": (model.group_weights["cost"] > 0).tolist(),
        "family": _family(model),
        "days_per_unit": model.lifetime_value.days_per_unit,
        "window_days": None if model.lifecycle.window_days is None else float(model.lifecycle.window_days),
        "gamma_gamma": (spend.p, spend.q, spend.gamma),
        "discount_factor": model.lifetime_value.discount_factor,
        "default_margin_rate": float(1 - model.cost_ratio),
        "rfm": [
            list(cuts)
            for cuts in (model.rfm.recency_days, model.rfm.order_count_365d, model.rfm.revenue_365d)
        ],
        "thresholds": [_thresholds(model, harder) for harder in (0, 1, -1)],
        "new_days": model.lifecycle.new_days,
        "tier_curve": None if model.tiers.by == "value" else _lists(model.tiers.curve),
        "dwell_days": hysteresis.dwell_by_dimension,
        "triggers": list(rules.triggers),
        "delay_days": [cast("dict[str, int]", rules.delay_days)[segment] for segment in SEGMENTS],
        "long_tenure_days": rules.long_tenure_days,
        "long_tenure_extra_days": rules.long_tenure_extra_days,
        "engaged_within_days": rules.engaged_within_days,
        "engaged_extra_days": rules.engaged_extra_days,
        "control_share": rules.control_share,
        "own_return": None if own_return is None else (float(own_return.within_days), own_return.above),
        "purchases_days": horizons.purchases_days,
        "engagements_days": horizons.engagements_days,
    }


class Exactly:
    """What the compiled core asks the Python core for."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.asked = 0

    def purchasing(
        self, repeats: int, to_last_days: int, tenure_days: int, recent: Sequence[int]
    ) -> tuple[float, ...]:
        """The prediction for one history, near a tie of rounding: by the Python core for both cores."""
        self.asked += 1
        found = purchasing_of(
            np.array([repeats]),
            np.array([to_last_days]),
            np.array([tenure_days]),
            self._model,
            np.array([recent]),
        )
        return tuple(values.item() for values in found)

    def chance_of_return(
        self, repeats: int, to_last_days: int, tenure_days: int, recent: Sequence[int]
    ) -> float:
        """The same for the chance that a customer buys in the days of `reactivation.own_return`."""
        self.asked += 1
        tenure = np.array([tenure_days])
        return float(chance_of_return(repeats, to_last_days, tenure, np.array([recent]), self._model)[0])

    def points_of_answer(self, key: str, answer: str | bool | int | float) -> float:
        """The points of a declared answer, which the model knows."""
        return self._model.declared[key].points(answer)


def _family(model: Model) -> dict[str, Any]:
    """What predicts purchases, as `GivenFamily` in kernel/src/lifetime/mod.rs takes it; times in the model's unit.

    Raises:
        DeclinedError: The compiled core does not know the family.
    """
    purchases, unit_days = model.lifetime_value.purchases, model.lifetime_value.days_per_unit
    given: dict[str, Any] = {
        "name": purchases.family,
        "stages": 0,
        "horizon": 0.0,
        "typical_gap": 0.0,
        "active_within": 0.0,
        "intercepts": (0.0, 0.0),
        "features": [],
        "silences": [],
        "log_paces": [],
        "after_first": [],
        "hazards": [],
        "renewals": [],
        "nodes": lifetime_value._LEGENDRE_NODES.tolist(),
        "node_weights": lifetime_value._LEGENDRE_WEIGHTS.tolist(),
    }
    if isinstance(purchases, ParetoNBDParameters):
        return given | {"parameters": (purchases.r, purchases.alpha, purchases.s, purchases.beta)}
    if isinstance(purchases, BGNBDParameters):
        return given | {"parameters": (purchases.r, purchases.alpha, purchases.a, purchases.b)}
    if isinstance(purchases, MBGCNBDParameters):
        parameters = purchases.r, purchases.alpha, purchases.a, purchases.b
        return given | {"parameters": parameters, "stages": purchases.k}
    if isinstance(purchases, RecalibratedParameters):
        corrections = [purchases.features[name] for name in FEATURES]
        return given | {
            "parameters": (purchases.r, purchases.alpha, purchases.s, purchases.beta),
            "horizon": purchases.horizon_days / unit_days,
            "typical_gap": purchases.typical_gap_days,
            "intercepts": (purchases.expected_intercept, purchases.buys_intercept),
            "features": [(own.least, own.most, own.expected, own.buys) for own in corrections],
        }
    if isinstance(purchases, EmpiricalParameters):
        hazard = cast("EmpiricalHazard", model.lifetime_value.purchase_model)
        return given | {
            "parameters": (0.0, 0.0, 0.0, 0.0),
            "typical_gap": purchases.typical_gap,
            "active_within": purchases.active_within,
            "silences": list(purchases.silences),
            "log_paces": np.log(purchases.paces).tolist(),
            "after_first": list(purchases.after_first),
            "hazards": [list(row) for row in purchases.hazards],
            "renewals": renewals(hazard, HORIZON_DAYS / unit_days).tolist(),
        }
    raise DeclinedError(f"the compiled core does not know the family {purchases.family}")


def _lists(curve: tuple[Any, Any]) -> tuple[list[float], list[float]]:
    at, points = curve
    return at.tolist(), points.tolist()


def _thresholds(model: Model, harder: int) -> list[float]:
    """In the order of `Thresholds` in kernel/src/model.rs, moved by their margins as `standing` moves them."""
    rules, segments = model.hysteresis, model.segments
    segment_margin, tier_margin = harder * rules.segment_margin, harder * rules.tier_margin
    at_risk, lapsed = model.lifecycle.limits
    tiers = [
        moved(threshold, tier_margin)
        for limits in (model.tiers.thresholds, model.tiers.by_potential)
        for threshold in (limits.field, limits.named, limits.strategic)
    ]
    return [
        moved(segments.high, segment_margin),
        moved(segments.high_churn_risk_limit, -harder * rules.churn_risk_margin),
        moved(segments.medium, segment_margin),
        moved(segments.emerging_potential, segment_margin),
        *tiers,
        moved(at_risk, -harder * model.lifecycle_margin),
        moved(lapsed, -harder * model.lifecycle_margin),
    ]


if __name__ == "__main__":
    print(told())
