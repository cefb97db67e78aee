//! Features, scores and candidate standings of one customer on one day. Twin: `enrichment/scoring/features.py`,
//! `scores.py` and the rules of `standing.py`: the same operations on doubles, in the same order.

use crate::customer::Customer;
use crate::lifetime::{History, Predictor, Purchasing};
use crate::model::{Model, Thresholds, METRICS};
use crate::numbers::round6;

const RATIO_CAP: f64 = 10.0;
const GROWTH_CAP: f64 = 10.0;
const GROWTH_MIN_DAYS: i64 = 90;
const NO_DAY: i64 = -1;
const RECENT_DAYS: [i64; 3] = [30, 90, 180];
const RECENCY: usize = 0;
const REVENUE: usize = 2;
const LIFETIME_VALUE: usize = 5;
const ENGAGED: usize = 6;
const POTENTIAL: usize = 3;
const VALUE: usize = 4;

pub type Ranks = [u8; 3];
/// How many ranks each dimension has.
pub const RANKS: Ranks = [5, 4, 5];
pub const SEGMENT: usize = 0;
pub const LIFECYCLE: usize = 2;
const NEW: u8 = 1;
pub const AT_RISK: u8 = 2;
pub const LAPSED: u8 = 3;
const LIFECYCLE_PROSPECT: u8 = 4;

/// Sums over the days of windows that end with a day.
#[derive(Default)]
pub struct Windows {
    pub orders: [i64; 3],
    pub revenue_micros: [i64; 3],
    pub margin_365d_micros: i64,
    pub counted_365d_micros: i64,
    pub cost_to_serve_365d_micros: i64,
    weighted_engagement_90d: f64,
    consent_breadth: i64,
}

/// One evaluation.
pub struct Row {
    pub day: i64,
    pub profiling_allowed: bool,
    pub has_order: bool,
    pub windows: Windows,
    pub metrics: [f64; METRICS],
    pub contributions: [f64; METRICS],
    pub scores: [f64; 5],
    pub recency_days: i64,
    pub tenure_days: i64,
    pub purchasing: Purchasing,
    pub lifetime_value: f64,
    pub value_at_stake: f64,
    pub rfm: i64,
    pub plain: Ranks,
    pub hard: Ranks,
    pub easy: Ranks,
    pub is_past_new: bool,
}

/// Evaluate a customer at the end of a day, which is not before their newest record.
pub fn evaluate<E>(
    customer: &Customer,
    day: i64,
    model: &Model,
    predictor: &mut Predictor,
    exactly: impl FnOnce(History) -> Result<Purchasing, E>,
) -> Result<Row, E> {
    let given = &model.given;
    let totals = &customer.ledger.totals;
    let windows = windows_of(customer, day, model);
    let has_order = totals.orders > 0;
    let since = |from: Option<i64>| match from {
        Some(from) if has_order => day - from,
        _ => NO_DAY,
    };
    let (recency_days, tenure_days) = (since(totals.last_day), since(totals.first_day));
    let mut purchasing = Purchasing {
        active: f64::NAN,
        silent: f64::NAN,
        expected: f64::NAN,
        expected_if_back: f64::NAN,
        silent_in_window: f64::NAN,
    };
    let (mut lifetime_value, mut value_at_stake) = (f64::NAN, f64::NAN);
    if let Some(history) = history_of(customer, day, model) {
        purchasing = predictor.predict(history, model, exactly)?;
        let worth = spend_per_day(customer, model) * margin_rate(customer, model);
        lifetime_value = round6(purchasing.expected * worth * given.discount_factor);
        let if_back = round6(purchasing.expected_if_back * worth * given.discount_factor);
        value_at_stake = round6((if_back - lifetime_value).max(0.0));
    }
    let metrics = metrics_of(
        customer,
        &windows,
        has_order,
        recency_days,
        tenure_days,
        lifetime_value,
        model,
    );
    let mut points = [0.0; METRICS];
    let mut signed = [0.0; METRICS];
    let mut contributions = [0.0; METRICS];
    for at in 0..METRICS {
        let metric = metrics[at];
        points[at] = round6(if metric.is_nan() {
            given.missing[at]
        } else {
            model.curves[at].interpolate(metric)
        });
        signed[at] = if given.is_cost[at] {
            100.0 - points[at]
        } else {
            points[at]
        };
        contributions[at] = signed[at] * model.value_weights[at];
    }
    let mut scores = [0.0; 5];
    for (score, weights) in scores.iter_mut().zip(&model.group_weights) {
        *score = round6(weighted_sum(&points, weights));
    }
    scores[VALUE] = round6(weighted_sum(&signed, &model.value_weights));
    let tier_points = match &model.tier_curve {
        None => scores[VALUE],
        Some(curve) => {
            let margin = round6(lifetime_value - windows.cost_to_serve_365d_micros as f64 / 1e6);
            round6(curve.interpolate(margin))
        }
    };
    let risk = match given.window_days {
        None => purchasing.silent,
        Some(_) => purchasing.silent_in_window,
    };
    let standing = Standing {
        has_order,
        lifetime_points: points[LIFETIME_VALUE],
        potential: scores[POTENTIAL],
        tier_points,
        churn_risk: purchasing.silent,
        risk,
        is_new: tenure_days <= given.new_days,
    };
    Ok(Row {
        day,
        profiling_allowed: day <= customer.profiling_until_day,
        has_order,
        rfm: rfm(&windows, has_order, recency_days, model),
        windows,
        metrics,
        contributions,
        scores,
        recency_days,
        tenure_days,
        purchasing,
        lifetime_value,
        value_at_stake,
        plain: standing.ranks(&model.thresholds[0]),
        hard: standing.ranks(&model.thresholds[1]),
        easy: standing.ranks(&model.thresholds[2]),
        is_past_new: tenure_days > given.new_days,
    })
}

/// What the families predict from, as known at the end of a day that is not before the newest record; None without a
/// counted order.
pub fn history_of(customer: &Customer, day: i64, model: &Model) -> Option<History> {
    let totals = &customer.ledger.totals;
    let (first_day, last_day) = totals.first_day.zip(totals.last_day)?;
    if totals.orders <= 0 {
        return None;
    }
    let mut recent = [0; 3];
    if model.family.looks_back() {
        for bucket in customer.ledger.days.iter().rev() {
            let age_days = day - bucket.day;
            if age_days >= RECENT_DAYS[2] {
                break;
            }
            if bucket.orders > 0 && bucket.day != first_day {
                for (count, days) in recent.iter_mut().zip(RECENT_DAYS) {
                    *count += i64::from(age_days < days);
                }
            }
        }
    }
    Some(History {
        repeats: totals.purchase_days - 1,
        to_last_days: last_day - first_day,
        tenure_days: day - first_day,
        recent,
    })
}

fn windows_of(customer: &Customer, day: i64, model: &Model) -> Windows {
    let mut windows = Windows::default();
    let mut refunds = 0;
    for bucket in customer.ledger.days.iter().rev() {
        let age_days = day - bucket.day;
        if age_days >= 365 {
            break;
        }
        for (at, days) in [30, 90, 365].into_iter().enumerate() {
            if age_days < days {
                windows.orders[at] += bucket.orders;
                windows.revenue_micros[at] += bucket.revenue_micros;
            }
        }
        windows.margin_365d_micros += bucket.margin_micros;
        windows.counted_365d_micros += bucket.counted_micros;
        refunds += bucket.refunds;
    }
    let engaged = &customer.engagement.days;
    for bucket in &engaged[engaged.partition_point(|bucket| bucket.day <= day - 365)..] {
        windows.cost_to_serve_365d_micros += bucket.cost_micros;
        let age_days = day - bucket.day;
        if age_days < 90 {
            windows.weighted_engagement_90d +=
                bucket.points * model.given.decay_of_sums[age_days as usize];
        }
    }
    windows.cost_to_serve_365d_micros += refunds * model.given.cost_per_refund_micros;
    windows.consent_breadth = customer.channels_on(day).count() as i64;
    windows
}

fn spend_per_day(customer: &Customer, model: &Model) -> f64 {
    let (p, q, gamma) = model.given.gamma_gamma;
    let totals = &customer.ledger.totals;
    let days = totals.repeat_spend_days as f64;
    let mean = if totals.repeat_spend_days > 0 {
        totals.repeat_spend_micros as f64 / 1e6 / days
    } else {
        0.0
    };
    p * (gamma + days * mean) / (p * days + (q - 1.0))
}

fn margin_rate(customer: &Customer, model: &Model) -> f64 {
    let totals = &customer.ledger.totals;
    let revenue = totals.revenue_micros as f64;
    let rate = if revenue > 0.0 {
        totals.margin_micros as f64 / revenue
    } else {
        model.given.default_margin_rate
    };
    rate.clamp(-1.0, 1.0)
}

#[allow(clippy::too_many_arguments)] // what an evaluation has found so far
fn metrics_of(
    customer: &Customer,
    windows: &Windows,
    has_order: bool,
    recency_days: i64,
    tenure_days: i64,
    lifetime_value: f64,
    model: &Model,
) -> [f64; METRICS] {
    let revenue_365d = windows.revenue_micros[2] as f64 / 1e6;
    let orders = windows.orders[2];
    let average = if orders > 0 {
        windows.counted_365d_micros as f64 / 1e6 / orders as f64
    } else {
        f64::NAN
    };
    let engaged = model.curves[ENGAGED].interpolate(round6(windows.weighted_engagement_90d));
    let spent = model.curves[REVENUE].interpolate(revenue_365d);
    let mut metrics = [
        f64::NAN,
        orders as f64,
        revenue_365d,
        windows.margin_365d_micros as f64 / 1e6,
        average,
        lifetime_value,
        windows.weighted_engagement_90d,
        windows.consent_breadth as f64,
        ratio(windows.cost_to_serve_365d_micros, windows.revenue_micros[2]),
        ratio(
            customer.engagement.cost_to_acquire_micros,
            customer.ledger.totals.margin_micros,
        ),
        customer.declared_intent.unwrap_or(f64::NAN),
        (engaged - spent).max(0.0),
        growth(windows, has_order, tenure_days),
    ];
    if has_order {
        metrics[RECENCY] = recency_days as f64;
    }
    metrics.map(round6)
}

/// Cost against what came in, at most RATIO_CAP; 0 without cost.
fn ratio(cost_micros: i64, brought_micros: i64) -> f64 {
    if cost_micros <= 0 {
        0.0
    } else if brought_micros > 0 {
        (cost_micros as f64 / brought_micros as f64).min(RATIO_CAP)
    } else {
        RATIO_CAP
    }
}

/// Revenue per day in the last 90 days against the year's (or the tenure's, if shorter).
fn growth(windows: &Windows, has_order: bool, tenure_days: i64) -> f64 {
    if !has_order || tenure_days < GROWTH_MIN_DAYS || windows.revenue_micros[2] <= 0 {
        return f64::NAN;
    }
    let days = (tenure_days + 1).min(365) as f64;
    let recent = windows.revenue_micros[1] as f64 / 90.0;
    let yearly = windows.revenue_micros[2] as f64 / days;
    (recent / yearly).clamp(-GROWTH_CAP, GROWTH_CAP)
}

fn weighted_sum(points: &[f64; METRICS], weights: &[f64; METRICS]) -> f64 {
    let mut total = 0.0;
    for (point, weight) in points.iter().zip(weights) {
        if *weight != 0.0 {
            total += point * weight;
        }
    }
    total
}

/// Three digits, 5 the best, as one number; 0 where there is no counted order.
fn rfm(windows: &Windows, has_order: bool, recency_days: i64, model: &Model) -> i64 {
    if !has_order {
        return 0;
    }
    let above = |at: usize, value: f64| {
        let cuts = &model.given.rfm[at];
        cuts.iter().filter(|&&cut| cut < value).count() as i64
    };
    let recent = 5 - above(0, recency_days as f64);
    let frequent = 1 + above(1, windows.orders[2] as f64);
    let monetary = 1 + above(2, windows.revenue_micros[2] as f64 / 1e6);
    100 * recent + 10 * frequent + monetary
}

struct Standing {
    has_order: bool,
    lifetime_points: f64,
    potential: f64,
    tier_points: f64,
    churn_risk: f64,
    risk: f64,
    is_new: bool,
}

impl Standing {
    fn ranks(&self, limits: &Thresholds) -> Ranks {
        [
            self.segment(limits),
            self.tier(limits),
            self.lifecycle(limits),
        ]
    }

    fn segment(&self, limits: &Thresholds) -> u8 {
        let otherwise = if self.potential >= limits.emerging {
            2
        } else if self.has_order {
            3
        } else {
            4
        };
        if !self.has_order {
            return otherwise;
        }
        let is_high = self.lifetime_points >= limits.high;
        if is_high && self.churn_risk <= limits.loyal {
            0
        } else if is_high || self.lifetime_points >= limits.medium {
            1
        } else {
            otherwise
        }
    }

    fn tier(&self, limits: &Thresholds) -> u8 {
        let (points, thresholds) = if self.has_order {
            (self.tier_points, &limits.tiers)
        } else {
            (self.potential, &limits.tiers_by_potential)
        };
        3 - thresholds.iter().filter(|&&from| points >= from).count() as u8
    }

    fn lifecycle(&self, limits: &Thresholds) -> u8 {
        if !self.has_order {
            LIFECYCLE_PROSPECT
        } else if self.risk >= limits.lapsed {
            LAPSED
        } else if self.risk >= limits.at_risk {
            AT_RISK
        } else {
            u8::from(self.is_new)
        }
    }
}

/// Where a customer stands after an evaluation; `current` None is nowhere.
pub fn next_standing(
    current: Option<Ranks>,
    changed_days: &[i64; 3],
    row: &Row,
    dwell_days: (i64, i64, i64),
) -> Ranks {
    let Some(current) = current else {
        return row.plain;
    };
    let is_prospect = |ranks: &Ranks| ranks[LIFECYCLE] == LIFECYCLE_PROSPECT;
    if is_prospect(&current) != is_prospect(&row.plain) {
        return row.plain;
    }
    let mut ranks = current;
    let dwell = [dwell_days.0, dwell_days.1, dwell_days.2];
    for dimension in 0..3 {
        let rank = current[dimension];
        if dimension == LIFECYCLE && rank == NEW && row.is_past_new {
            ranks[dimension] = row.plain[dimension];
        } else if row.day - changed_days[dimension] >= dwell[dimension] {
            ranks[dimension] = rank.max(row.easy[dimension]).min(row.hard[dimension]);
        }
    }
    ranks
}
