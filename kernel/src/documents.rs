//! Documents as JSON, keys in the order of the contract. Twin: `enrichment/deciding/profile.py`, `changes.py`,
//! `drivers.py` and `reactivation.py`.

use crate::customer::{Catalogue, Customer};
use crate::days::{midnight_us, write_day, write_time};
use crate::decision::{Baseline, Decision, PendingTrigger};
use crate::events::Answer;
use crate::identity::{digest_of, identifier, Part};
use crate::json::{write_float, write_float_or_null, write_integer, write_string, Commas};
use crate::model::Model;
use crate::numbers::{round6_exactly, write_micros};
use crate::scores::{Ranks, Row};

pub const DIMENSIONS: [&str; 3] = ["segment", "tier", "lifecycle"];
const SCORES: [&str; 5] = ["business", "engagement", "cost", "potential", "value"];
const MIN_LISTED_EFFECT: f64 = 0.05;
const MAX_CATEGORIES: usize = 5;
const COUNT_WINDOW_DAYS: i64 = 90;
const NO_SCORES: &[u8] =
    br#"{"business":null,"engagement":null,"cost":null,"potential":null,"value":null}"#;
const NO_TRAITS: &[u8] = br#"{"recency_days":null,"tenure_days":null,"rfm":null,"probability_active":null,"expected_orders_365d":null,"customer_lifetime_value_365d":null,"churn_risk":null,"silence_risk":null,"value_at_stake":null,"preferred_categories":null,"preferred_channels":null,"attributes":null,"declared":null}"#;

/// The name of a rank.
pub fn standing_name(dimension: usize, rank: u8) -> &'static str {
    const NAMES: [[&str; 5]; 3] = [
        ["high", "medium", "emerging", "low", "prospect"],
        ["strategic", "named", "field", "inside", ""],
        ["active", "new", "at_risk", "lapsed", "prospect"],
    ];
    NAMES[dimension][usize::from(rank)]
}

/// What set an evaluation off.
#[derive(Clone, Copy)]
pub struct Cause<'a> {
    pub trigger: &'static str,
    pub event_id: Option<&'a str>,
}

/// Everything that the documents of one customer are written with.
pub struct Writer<'a> {
    pub model: &'a Model,
    pub catalogue: &'a Catalogue,
    pub customer_id: &'a str,
}

impl Writer<'_> {
    /// The id of one segment change.
    pub fn change_id(&self, life: i64, dimension: usize, sequence: i64) -> String {
        identifier(&[
            Part::Text(&self.model.given.namespace),
            Part::Text(self.customer_id),
            Part::Number(life),
            Part::Text(DIMENSIONS[dimension]),
            Part::Number(sequence),
        ])
    }

    /// Scores and traits of a row, as a change has them; null each without a row.
    pub fn scores_and_traits(&self, customer: &Customer, row: Option<&Row>) -> (Vec<u8>, Vec<u8>) {
        let Some(row) = row.filter(|row| row.profiling_allowed) else {
            return (NO_SCORES.to_vec(), NO_TRAITS.to_vec());
        };
        let (mut scores, mut traits) = (Vec::new(), Vec::new());
        write_scores(&mut scores, &row.scores);
        self.write_traits(&mut traits, customer, row);
        (scores, traits)
    }

    /// What the changes of one evaluation have in common, from `reason` on.
    #[allow(clippy::too_many_arguments)] // one evaluation, in its parts
    pub fn end_of_change(
        &self,
        cause: Cause<'_>,
        before: Option<&Baseline>,
        has_standing: bool,
        after: Option<&Baseline>,
        scores: &[u8],
        traits: &[u8],
        permissions: impl Iterator<Item = u32>,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(b"\"reason\":{\"trigger\":");
        write_string(&mut out, cause.trigger);
        out.extend_from_slice(b",\"event_id\":");
        match cause.event_id {
            Some(event_id) => write_string(&mut out, event_id),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"drivers\":[");
        if let (true, Some(before), Some(after)) = (has_standing, before, after) {
            match cause.trigger {
                "model" => write_model_driver(&mut out, before, after),
                _ => self.write_drivers(&mut out, before, after),
            }
        }
        out.extend_from_slice(b"]},\"scores\":");
        out.extend_from_slice(scores);
        out.extend_from_slice(b",\"previous_scores\":");
        match before {
            Some(before) => write_scores(&mut out, &before.scores),
            None => out.extend_from_slice(NO_SCORES),
        }
        out.extend_from_slice(b",\"traits\":");
        out.extend_from_slice(traits);
        out.extend_from_slice(b",\"permissions\":[");
        self.write_places(&mut out, permissions);
        out.extend_from_slice(b"],\"model\":");
        self.write_model(&mut out);
        out.push(b'}');
        out
    }

    /// One change, up to `reason`; gives its id.
    #[allow(clippy::too_many_arguments)] // one change, in its parts
    pub fn begin_change(
        &self,
        out: &mut Vec<u8>,
        life: i64,
        sequence: i64,
        dimension: usize,
        previous: Option<u8>,
        current: Option<u8>,
        as_of_us: i64,
    ) -> String {
        let id = self.change_id(life, dimension, sequence);
        out.extend_from_slice(b"{\"change_id\":\"");
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(b"\",\"customer_id\":");
        write_string(out, self.customer_id);
        out.extend_from_slice(b",\"life\":");
        write_integer(out, life);
        out.extend_from_slice(b",\"sequence\":");
        write_integer(out, sequence);
        out.extend_from_slice(b",\"dimension\":");
        write_string(out, DIMENSIONS[dimension]);
        for (key, rank) in [(",\"previous\":", previous), (",\"current\":", current)] {
            out.extend_from_slice(key.as_bytes());
            write_standing(out, dimension, rank);
        }
        out.extend_from_slice(b",\"direction\":");
        write_string(out, direction(previous, current));
        out.extend_from_slice(b",\"as_of\":\"");
        write_time(out, as_of_us);
        out.extend_from_slice(b"\",");
        id
    }

    /// The re-activation that falls due on a day, and whether its customer is in the control group; None where no
    /// channel is permitted.
    pub fn trigger(
        &self,
        customer: &Customer,
        pending: &PendingTrigger,
        standing: Ranks,
        row: &Row,
    ) -> Option<(Vec<u8>, bool)> {
        let channels = self.channels_best_first(customer, row.day);
        if channels.is_empty() {
            return None;
        }
        let given = &self.model.given;
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(b"{\"trigger_id\":\"");
        let id = identifier(&[Part::Text("reactivation"), Part::Text(&pending.change_id)]);
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(b"\",\"customer_id\":");
        write_string(&mut out, self.customer_id);
        out.extend_from_slice(b",\"change_id\":\"");
        out.extend_from_slice(pending.change_id.as_bytes());
        out.extend_from_slice(b"\",\"as_of\":\"");
        write_time(&mut out, midnight_us(row.day));
        out.extend_from_slice(b"\",\"due_at\":\"");
        write_time(&mut out, midnight_us(pending.due_day));
        out.push(b'"');
        for (dimension, name) in DIMENSIONS.iter().enumerate() {
            out.push(b',');
            write_string(&mut out, name);
            out.push(b':');
            write_standing(&mut out, dimension, Some(standing[dimension]));
        }
        out.extend_from_slice(b",\"channels\":[");
        self.write_places(&mut out, channels.into_iter());
        out.extend_from_slice(b"],\"preferred_categories\":[");
        self.write_categories(&mut out, customer, row.day);
        out.extend_from_slice(b"],\"value_at_stake\":");
        self.write_money(&mut out, row.value_at_stake);
        out.extend_from_slice(b",\"group\":");
        let group = identifier(&[
            Part::Text("group"),
            Part::Text(&given.namespace),
            Part::Text(self.customer_id),
        ]);
        let share = digest_of(group.as_bytes()) as f64 / 2.0_f64.powi(64);
        let is_control = share < given.control_share;
        write_string(&mut out, if is_control { "control" } else { "treatment" });
        out.extend_from_slice(b",\"model\":");
        self.write_model(&mut out);
        out.push(b'}');
        Some((out, is_control))
    }

    /// The profile of a row.
    pub fn profile(&self, out: &mut Vec<u8>, customer: &Customer, row: &Row, as_of_us: i64) {
        let decision: &Decision = &customer.decision;
        out.extend_from_slice(b"{\"customer_id\":");
        write_string(out, self.customer_id);
        out.extend_from_slice(b",\"as_of\":\"");
        write_time(out, as_of_us);
        out.extend_from_slice(b"\",\"sequence\":");
        write_integer(out, decision.sequence);
        out.extend_from_slice(b",\"aggregates\":");
        self.write_aggregates(out, customer, row);
        let (scores, traits) = self.scores_and_traits(customer, Some(row));
        out.extend_from_slice(b",\"scores\":");
        out.extend_from_slice(&scores);
        out.extend_from_slice(b",\"traits\":");
        out.extend_from_slice(&traits);
        out.extend_from_slice(b",\"standing\":{");
        let mut commas = Commas::new();
        for (dimension, name) in DIMENSIONS.iter().enumerate() {
            commas.next(out);
            write_string(out, name);
            out.push(b':');
            write_standing(
                out,
                dimension,
                decision.standing.map(|ranks| ranks[dimension]),
            );
        }
        out.extend_from_slice(b"},\"consents\":{");
        self.write_consents(out, customer, row);
        out.extend_from_slice(b"},\"model\":");
        self.write_model(out);
        out.push(b'}');
    }

    fn write_model(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"name\":");
        write_string(out, &self.model.given.name);
        out.extend_from_slice(b",\"version\":");
        write_string(out, &self.model.given.version);
        out.push(b'}');
    }

    /// Metrics whose effect on value is at least 0.05, largest first, then by name.
    fn write_drivers(&self, out: &mut Vec<u8>, before: &Baseline, after: &Baseline) {
        let mut effects: Vec<(f64, usize)> = Vec::new();
        for (at, (old, new)) in before
            .contributions
            .iter()
            .zip(&after.contributions)
            .enumerate()
        {
            if old != new {
                let effect = round6_exactly(new - old);
                if effect.abs() >= MIN_LISTED_EFFECT {
                    effects.push((effect, at));
                }
            }
        }
        let names = &self.model.given.metrics;
        effects.sort_by(|left, right| {
            right
                .0
                .abs()
                .total_cmp(&left.0.abs())
                .then_with(|| names[left.1].cmp(&names[right.1]))
        });
        let mut commas = Commas::new();
        for (effect, at) in effects {
            commas.next(out);
            out.extend_from_slice(b"{\"metric\":");
            write_string(out, &names[at]);
            out.extend_from_slice(b",\"before\":");
            write_plain(out, before.metrics[at]);
            out.extend_from_slice(b",\"after\":");
            write_plain(out, after.metrics[at]);
            out.extend_from_slice(b",\"effect_on_value\":");
            write_float(out, effect);
            out.push(b'}');
        }
    }

    fn write_traits(&self, out: &mut Vec<u8>, customer: &Customer, row: &Row) {
        let days = [
            ("{\"recency_days\":", row.recency_days),
            (",\"tenure_days\":", row.tenure_days),
        ];
        for (key, days) in days {
            out.extend_from_slice(key.as_bytes());
            if row.has_order {
                write_integer(out, days);
            } else {
                out.extend_from_slice(b"null");
            }
        }
        out.extend_from_slice(b",\"rfm\":");
        if row.has_order {
            out.push(b'"');
            write_integer(out, row.rfm);
            out.push(b'"');
        } else {
            out.extend_from_slice(b"null");
        }
        out.extend_from_slice(b",\"probability_active\":");
        write_float_or_null(out, row.purchasing.active);
        out.extend_from_slice(b",\"expected_orders_365d\":");
        write_float_or_null(out, row.purchasing.expected);
        out.extend_from_slice(b",\"customer_lifetime_value_365d\":");
        self.write_money(out, row.lifetime_value);
        out.extend_from_slice(b",\"churn_risk\":");
        write_float_or_null(out, row.purchasing.silent);
        out.extend_from_slice(b",\"silence_risk\":");
        write_float_or_null(out, row.purchasing.silent_in_window);
        out.extend_from_slice(b",\"value_at_stake\":");
        self.write_money(out, row.value_at_stake);
        out.extend_from_slice(b",\"preferred_categories\":[");
        self.write_categories(out, customer, row.day);
        out.extend_from_slice(b"],\"preferred_channels\":[");
        self.write_places(out, self.preferred_channels(customer, row.day).into_iter());
        out.extend_from_slice(b"],\"attributes\":{");
        let mut commas = Commas::new();
        for (key, value) in &customer.told {
            commas.next(out);
            write_string(out, key);
            out.push(b':');
            write_string(out, value);
        }
        out.extend_from_slice(b"},\"declared\":{");
        let mut commas = Commas::new();
        for (key, latest) in &customer.engagement.declared {
            commas.next(out);
            write_string(out, key);
            out.push(b':');
            match &latest.value {
                Answer::Text(text) => write_string(out, text),
                Answer::Truth(truth) => out.extend_from_slice(truth.to_string().as_bytes()),
                Answer::Whole(number) => write_integer(out, *number),
                Answer::Large(number) => out.extend_from_slice(number.to_string().as_bytes()),
                Answer::Number(number) => write_float(out, *number),
            }
        }
        out.extend_from_slice(b"}}");
    }

    fn write_aggregates(&self, out: &mut Vec<u8>, customer: &Customer, row: &Row) {
        let (totals, windows) = (&customer.ledger.totals, &row.windows);
        let last_engaged = customer
            .engagement
            .last_engaged_day(&self.catalogue.weight_of_kind);
        let days = [
            ("{\"first_order_on\":", totals.first_day),
            (",\"last_order_on\":", totals.last_day),
            (",\"last_engaged_on\":", last_engaged),
        ];
        for (key, day) in days {
            out.extend_from_slice(key.as_bytes());
            match day {
                Some(day) => {
                    out.push(b'"');
                    write_day(out, day);
                    out.push(b'"');
                }
                None => out.extend_from_slice(b"null"),
            }
        }
        out.extend_from_slice(b",\"order_count\":");
        write_integer(out, totals.orders);
        out.extend_from_slice(b",\"purchase_days\":");
        write_integer(out, totals.purchase_days);
        self.write_amounts(
            out,
            &[
                ("revenue", totals.revenue_micros),
                ("refunded", totals.refunded_micros),
                ("margin", totals.margin_micros),
            ],
        );
        for (key, orders) in ["30d", "90d", "365d"].iter().zip(windows.orders) {
            out.extend_from_slice(b",\"order_count_");
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            write_integer(out, orders);
        }
        self.write_amounts(
            out,
            &[
                ("revenue_30d", windows.revenue_micros[0]),
                ("revenue_90d", windows.revenue_micros[1]),
                ("revenue_365d", windows.revenue_micros[2]),
                ("margin_365d", windows.margin_365d_micros),
            ],
        );
        out.extend_from_slice(b",\"average_order_value_365d\":");
        match windows.orders[2] {
            0 => out.extend_from_slice(b"null"),
            orders => self.write_amount(out, windows.counted_365d_micros, orders),
        }
        out.extend_from_slice(b",\"engagements_90d\":{");
        let mut commas = Commas::new();
        for (key, count) in counts_90d(customer, row.day) {
            commas.next(out);
            write_string(out, &self.catalogue.count_key_names[key as usize]);
            out.push(b':');
            write_integer(out, count);
        }
        out.push(b'}');
        self.write_amounts(
            out,
            &[
                ("cost_to_serve_365d", windows.cost_to_serve_365d_micros),
                (
                    "cost_to_acquire",
                    customer.engagement.cost_to_acquire_micros,
                ),
            ],
        );
        out.push(b'}');
    }

    fn write_amounts(&self, out: &mut Vec<u8>, amounts: &[(&str, i64)]) {
        for (key, micros) in amounts {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            self.write_amount(out, *micros, 1);
        }
    }

    fn write_amount(&self, out: &mut Vec<u8>, micros: i64, share: i64) {
        out.push(b'"');
        let digits = self.model.given.minor_unit_digits;
        write_micros(out, i128::from(micros), digits, i128::from(share));
        out.push(b'"');
    }

    /// Base units, which are NaN where not defined, as a decimal string.
    fn write_money(&self, out: &mut Vec<u8>, amount: f64) {
        if amount.is_nan() {
            out.extend_from_slice(b"null");
            return;
        }
        out.push(b'"');
        let micros = (amount * 1e6).round_ties_even() as i128;
        write_micros(out, micros, self.model.given.minor_unit_digits, 1);
        out.push(b'"');
    }

    /// Base units as a decimal string; empty where not defined.
    pub fn money_text(&self, amount: f64) -> String {
        let mut out = Vec::new();
        self.write_money(&mut out, amount);
        String::from_utf8_lossy(&out)
            .replace(['"'], "")
            .replace("null", "")
    }

    fn write_consents(&self, out: &mut Vec<u8>, customer: &Customer, row: &Row) {
        let held = customer.channels.iter().chain(&customer.others);
        let mut granted: Vec<(u32, bool)> = held
            .map(|(purpose, last_day)| (*purpose, *last_day >= row.day))
            .collect();
        granted.push((self.catalogue.profiling, row.profiling_allowed));
        granted.sort_unstable();
        let mut commas = Commas::new();
        for (purpose, is_granted) in granted {
            commas.next(out);
            write_string(out, &self.catalogue.places[purpose as usize]);
            out.extend_from_slice(if is_granted { b":true" } else { b":false" });
        }
    }

    fn write_places(&self, out: &mut Vec<u8>, places: impl Iterator<Item = u32>) {
        let mut commas = Commas::new();
        for place in places {
            commas.next(out);
            write_string(out, &self.catalogue.places[place as usize]);
        }
    }

    /// The item categories found in most counted orders of 365 days, then by name; at most five.
    fn write_categories(&self, out: &mut Vec<u8>, customer: &Customer, day: i64) {
        let mut orders: Vec<(u32, i64)> = Vec::new();
        for bucket in &customer.ledger.days {
            if day - 365 < bucket.day && bucket.day <= day {
                for &category in &bucket.categories {
                    add_to(&mut orders, category, 1);
                }
            }
        }
        orders.sort_by_key(|&(category, count)| (-count, category));
        let mut commas = Commas::new();
        for (category, _) in orders.into_iter().take(MAX_CATEGORIES) {
            commas.next(out);
            write_string(out, &self.catalogue.categories[category as usize]);
        }
    }

    /// Channels by decayed engagement over 90 days, most first, then by name.
    fn preferred_channels(&self, customer: &Customer, day: i64) -> Vec<u32> {
        let mut strengths: Vec<(u32, f64)> = Vec::new();
        for bucket in &customer.engagement.days {
            let age_days = day - bucket.day;
            if !(0..COUNT_WINDOW_DAYS).contains(&age_days) {
                continue;
            }
            let decay = self.model.given.decay_of_channels[age_days as usize];
            for &(key, count) in &bucket.counts {
                let key = &self.catalogue.count_keys[key as usize];
                let (Some(channel), true) = (key.channel, key.weight > 0.0) else {
                    continue;
                };
                let more = key.weight * count as f64 * decay;
                match strengths.iter_mut().find(|(known, _)| *known == channel) {
                    Some((_, strength)) => *strength += more,
                    None => strengths.push((channel, more)),
                }
            }
        }
        if strengths.len() > 1 {
            for (_, strength) in &mut strengths {
                *strength = round6_exactly(*strength);
            }
            strengths.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
        }
        strengths.into_iter().map(|(channel, _)| channel).collect()
    }

    /// The permitted channels: those that the customer engages on first, then by name.
    fn channels_best_first(&self, customer: &Customer, day: i64) -> Vec<u32> {
        let preferred = self.preferred_channels(customer, day);
        let place = |channel: &u32| {
            let found = preferred.iter().position(|known| known == channel);
            found.unwrap_or(preferred.len())
        };
        let mut channels: Vec<u32> = customer.channels_on(day).collect();
        channels.sort_by_key(|channel| (place(channel), *channel));
        channels
    }
}

/// Interactions by the number of `channel.kind` over 90 days, in order.
fn counts_90d(customer: &Customer, day: i64) -> Vec<(u32, i64)> {
    let mut counts: Vec<(u32, i64)> = Vec::new();
    for bucket in &customer.engagement.days {
        if day - COUNT_WINDOW_DAYS < bucket.day && bucket.day <= day {
            for &(key, count) in &bucket.counts {
                add_to(&mut counts, key, count);
            }
        }
    }
    counts.sort_unstable();
    counts
}

fn add_to(counts: &mut Vec<(u32, i64)>, key: u32, more: i64) {
    match counts.iter_mut().find(|(known, _)| *known == key) {
        Some((_, count)) => *count += more,
        None => counts.push((key, more)),
    }
}

fn write_scores(out: &mut Vec<u8>, scores: &[f64; 5]) {
    out.push(b'{');
    let mut commas = Commas::new();
    for (name, score) in SCORES.iter().zip(scores) {
        commas.next(out);
        write_string(out, name);
        out.push(b':');
        write_float(out, *score);
    }
    out.push(b'}');
}

fn write_standing(out: &mut Vec<u8>, dimension: usize, rank: Option<u8>) {
    match rank {
        Some(rank) => write_string(out, standing_name(dimension, rank)),
        None => out.extend_from_slice(b"null"),
    }
}

/// The direction of a change; a lower rank is nearer to the top.
pub fn direction(previous: Option<u8>, current: Option<u8>) -> &'static str {
    match (previous, current) {
        (None, _) => "entered",
        (_, None) => "left",
        (Some(previous), Some(current)) if current < previous => "upgrade",
        _ => "downgrade",
    }
}

/// Whole numbers as integers, so that days read as days.
fn write_plain(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"null");
    } else if value.fract() == 0.0 {
        write_integer(out, value as i64);
    } else {
        write_float(out, value);
    }
}

/// The one driver of a change that a new model brought.
fn write_model_driver(out: &mut Vec<u8>, before: &Baseline, after: &Baseline) {
    let total = |baseline: &Baseline| {
        baseline
            .contributions
            .iter()
            .fold(0.0, |sum, own| sum + own)
    };
    out.extend_from_slice(
        b"{\"metric\":\"model\",\"before\":null,\"after\":null,\"effect_on_value\":",
    );
    write_float(out, round6_exactly(total(after) - total(before)));
    out.push(b'}');
}
