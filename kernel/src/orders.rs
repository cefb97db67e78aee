//! The order ledger: one customer's exact money, by UTC day. Twin: `enrichment/customer/orders.py`.

use std::collections::BTreeMap;

use crate::days::day_of;
use crate::events::{Purchase, PurchaseKind};
use crate::model::Model;
use crate::numbers::divide_half_even;
use crate::Declined;

#[derive(Clone)]
pub struct Version {
    pub occurred_at_us: i64,
    pub event_id: Box<str>,
    /// What stands for the event id among those that were seen; 0 before `Customer::has_told_purchases`.
    pub digest: u64,
    pub currency: usize,
    pub total_micros: i64,
    pub base_total_micros: i64,
    pub base_cost_micros: i64,
    pub categories: Vec<u32>,
}

impl Version {
    fn key(&self) -> (i64, &str) {
        (self.occurred_at_us, &self.event_id)
    }
}

pub struct Refund {
    pub day: i64,
    pub is_late: bool,
    pub currency: usize,
    pub amount_micros: i64,
    pub base_amount_micros: i64,
    pub base_cost_micros: i64,
    pub count: i64,
}

/// Everything known about one order. Without `ordered_on` its `order` has not come.
#[derive(Default)]
pub struct Entry {
    pub ordered_on: Option<i64>,
    pub version: Option<Version>,
    pub late_version: Option<Version>,
    pub is_cancelled: bool,
    pub is_cancelled_late: bool,
    pub refunds: Vec<Refund>,
    pub newest_day: i64,
}

/// One UTC day of counted orders and money, in base micro-units.
#[derive(Clone, Default, PartialEq)]
pub struct DayMoney {
    pub day: i64,
    pub orders: i64,
    pub counted_micros: i64,
    pub revenue_micros: i64,
    pub margin_micros: i64,
    pub refunded_micros: i64,
    pub refunds: i64,
    /// Of every counted order, in order.
    pub categories: Vec<u32>,
}

impl DayMoney {
    fn is_empty(&self) -> bool {
        self.orders == 0
            && self.counted_micros == 0
            && self.revenue_micros == 0
            && self.margin_micros == 0
            && self.refunded_micros == 0
            && self.refunds == 0
            && self.categories.is_empty()
    }

    fn combine(&mut self, other: &DayMoney, sign: i64) {
        self.orders += sign * other.orders;
        self.counted_micros += sign * other.counted_micros;
        self.revenue_micros += sign * other.revenue_micros;
        self.margin_micros += sign * other.margin_micros;
        self.refunded_micros += sign * other.refunded_micros;
        self.refunds += sign * other.refunds;
        for category in &other.categories {
            let at = self.categories.partition_point(|known| known < category);
            if sign > 0 {
                self.categories.insert(at, *category);
            } else if self.categories.get(at) == Some(category) {
                self.categories.remove(at);
            }
        }
    }
}

/// Lifetime totals.
#[derive(Clone, Copy, Default)]
pub struct Totals {
    pub first_day: Option<i64>,
    pub last_day: Option<i64>,
    pub orders: i64,
    pub purchase_days: i64,
    pub revenue_micros: i64,
    pub margin_micros: i64,
    pub refunded_micros: i64,
    pub repeat_spend_days: i64,
    pub repeat_spend_micros: i64,
}

impl Totals {
    fn add(&mut self, bucket: &DayMoney) {
        self.revenue_micros += bucket.revenue_micros;
        self.margin_micros += bucket.margin_micros;
        self.refunded_micros += bucket.refunded_micros;
        if bucket.orders == 0 {
            return;
        }
        if self.first_day.is_none() {
            self.first_day = Some(bucket.day);
        } else if bucket.counted_micros > 0 {
            self.repeat_spend_days += 1;
            self.repeat_spend_micros += bucket.counted_micros;
        }
        self.last_day = Some(bucket.day);
        self.orders += bucket.orders;
        self.purchase_days += 1;
    }
}

/// One customer's orders by id, their day buckets in ascending order, and lifetime totals.
#[derive(Default)]
pub struct Ledger {
    pub entries: BTreeMap<Box<str>, Entry>,
    pub folded: Totals,
    pub gross_micros: i64,
    pub newest_day: i64,
    pub days: Vec<DayMoney>,
    pub totals: Totals,
}

/// What a purchase record did.
pub struct PurchaseEffect {
    pub is_repeated_order: bool,
    pub is_new_counted_order: bool,
}

impl Ledger {
    /// What is known of each order, as far as it has come.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        self.entries
            .values()
            .filter_map(|entry| entry.version.as_ref())
    }

    /// Make the day buckets and the totals that the entries stand for.
    pub fn derive(&mut self, model: &Model) -> Result<(), Declined> {
        let mut by_day: BTreeMap<i64, DayMoney> = BTreeMap::new();
        for entry in self.entries.values() {
            for part in contributions(entry, model)? {
                match by_day.get_mut(&part.day) {
                    Some(bucket) => bucket.combine(&part, 1),
                    None => {
                        by_day.insert(part.day, part);
                    }
                }
            }
        }
        self.days = by_day
            .into_values()
            .filter(|bucket| !bucket.is_empty())
            .collect();
        self.totals = self.folded;
        for bucket in &self.days {
            self.totals.add(bucket);
        }
        Ok(())
    }

    /// Enter one accepted record.
    #[allow(clippy::too_many_arguments)] // one record, in its parts
    pub fn apply(
        &mut self,
        purchase: &Purchase,
        categories: Vec<u32>,
        occurred_at_us: i64,
        event_id: &str,
        digest: u64,
        model: &Model,
        late_after_days: i64,
    ) -> Result<PurchaseEffect, Declined> {
        let known = self.entries.get(&purchase.order_id);
        let before = known.map_or(Ok(Vec::new()), |entry| contributions(entry, model))?;
        let counted_before = known.map_or(Ok(false), |entry| is_counted(entry, model))?;
        let is_order = purchase.kind == PurchaseKind::Order;
        let is_repeated_order = is_order && known.is_some_and(|entry| entry.ordered_on.is_some());
        let amount_micros = model
            .in_base_micros(purchase.total_micros, purchase.currency)
            .ok_or(Declined("an amount beyond 64 bits"))?;
        self.gross_micros += amount_micros;
        let entry = self.entries.entry(purchase.order_id.clone()).or_default();
        enter(
            entry,
            purchase,
            categories,
            occurred_at_us,
            event_id,
            digest,
            amount_micros,
            model,
            late_after_days,
        )?;
        let after = contributions(entry, model)?;
        let is_counted_now = is_counted(entry, model)?;
        self.replace(before, after);
        self.fold(day_of(occurred_at_us), 2 * late_after_days);
        Ok(PurchaseEffect {
            is_repeated_order,
            is_new_counted_order: is_order
                && !counted_before
                && !is_repeated_order
                && is_counted_now,
        })
    }

    fn replace(&mut self, taken: Vec<DayMoney>, added: Vec<DayMoney>) {
        if taken == added {
            return;
        }
        if let (true, [bucket]) = (taken.is_empty(), added.as_slice()) {
            let is_later = self.days.last().is_none_or(|last| bucket.day > last.day);
            if is_later && !bucket.is_empty() {
                self.totals.add(bucket);
                self.days.extend(added);
                return;
            }
        }
        for (parts, sign) in [(added, 1), (taken, -1)] {
            for part in parts {
                let at = self.days.partition_point(|known| known.day < part.day);
                if self.days.get(at).is_none_or(|known| known.day != part.day) {
                    let day = part.day;
                    self.days.insert(
                        at,
                        DayMoney {
                            day,
                            ..DayMoney::default()
                        },
                    );
                }
                self.days[at].combine(&part, sign);
                if self.days[at].is_empty() {
                    self.days.remove(at);
                }
            }
        }
        self.totals = self.folded;
        for bucket in &self.days {
            self.totals.add(bucket);
        }
    }

    /// Fold days that no acceptable record can change any more into lifetime totals.
    fn fold(&mut self, newest_day: i64, keep_days: i64) {
        if newest_day <= self.newest_day {
            return;
        }
        let is_time_to_look = newest_day >> 6 != self.newest_day >> 6;
        self.newest_day = newest_day;
        let cut = newest_day - keep_days;
        if !is_time_to_look && self.days.first().is_none_or(|first| first.day >= cut) {
            return;
        }
        let cut = self.cut_between_entries(cut);
        self.entries
            .retain(|_, entry| anchor_day(entry) >= cut || keeps_refunds(entry, cut));
        let at = self.days.partition_point(|bucket| bucket.day < cut);
        for bucket in self.days.drain(..at) {
            self.folded.add(&bucket);
        }
    }

    /// The newest day up to `cut` before which no entry that stays has money.
    fn cut_between_entries(&self, mut cut: i64) -> i64 {
        loop {
            let oldest = self
                .entries
                .values()
                .filter(|entry| anchor_day(entry) >= cut)
                .flat_map(|entry| entry.refunds.iter().map(|refund| refund.day))
                .min()
                .unwrap_or(cut);
            if oldest >= cut {
                return cut;
            }
            cut = oldest;
        }
    }
}

/// Leave of an entry that is folded only its refunds from `cut` on; tells whether anything is left.
fn keeps_refunds(entry: &mut Entry, cut: i64) -> bool {
    entry.refunds.retain(|refund| refund.day >= cut);
    if entry.ordered_on.is_none() {
        return !entry.refunds.is_empty() || entry.newest_day >= cut;
    }
    if entry.refunds.is_empty() || entry.is_cancelled || entry.is_cancelled_late {
        return false;
    }
    let refunds = std::mem::take(&mut entry.refunds);
    *entry = Entry {
        refunds,
        newest_day: entry.newest_day,
        ..Entry::default()
    };
    true
}

fn anchor_day(entry: &Entry) -> i64 {
    entry.ordered_on.unwrap_or_else(|| {
        let days = entry.refunds.iter().map(|refund| refund.day);
        days.min().unwrap_or(entry.newest_day)
    })
}

#[allow(clippy::too_many_arguments)] // one record, in its parts
fn enter(
    entry: &mut Entry,
    purchase: &Purchase,
    categories: Vec<u32>,
    occurred_at_us: i64,
    event_id: &str,
    digest: u64,
    amount_micros: i64,
    model: &Model,
    late_after_days: i64,
) -> Result<(), Declined> {
    let day = day_of(occurred_at_us);
    let is_late = entry
        .ordered_on
        .is_some_and(|ordered_on| day > ordered_on + late_after_days);
    entry.newest_day = entry.newest_day.max(day);
    if purchase.kind == PurchaseKind::Cancellation {
        entry.is_cancelled |= !is_late;
        entry.is_cancelled_late |= is_late;
        return Ok(());
    }
    let base_cost_micros = match purchase.cost_of_goods_micros {
        Some(cost_micros) => model.in_base_micros(cost_micros, purchase.currency),
        None => {
            let (numerator, denominator) = model.given.cost_ratio;
            let cost = i128::from(amount_micros) * i128::from(numerator);
            i64::try_from(divide_half_even(cost, i128::from(denominator))).ok()
        }
    }
    .ok_or(Declined("a cost beyond 64 bits"))?;
    if purchase.kind == PurchaseKind::Refund {
        add_refund(
            &mut entry.refunds,
            Refund {
                day,
                is_late,
                currency: purchase.currency,
                amount_micros: purchase.total_micros,
                base_amount_micros: amount_micros,
                base_cost_micros,
                count: 1,
            },
        );
        return Ok(());
    }
    let is_earlier = entry.ordered_on.is_none_or(|ordered_on| day < ordered_on);
    if purchase.kind == PurchaseKind::Order && is_earlier {
        entry.ordered_on = Some(day);
    }
    let version = Version {
        occurred_at_us,
        event_id: event_id.into(),
        digest,
        currency: purchase.currency,
        total_micros: purchase.total_micros,
        base_total_micros: amount_micros,
        base_cost_micros,
        categories,
    };
    let place = if is_late {
        &mut entry.late_version
    } else {
        &mut entry.version
    };
    if place
        .as_ref()
        .is_none_or(|known| version.key() > known.key())
    {
        *place = Some(version);
    }
    Ok(())
}

fn add_refund(refunds: &mut Vec<Refund>, refund: Refund) {
    for known in refunds.iter_mut() {
        let is_alike = (known.day, known.is_late, known.currency)
            == (refund.day, refund.is_late, refund.currency);
        let Some(amount_micros) = known.amount_micros.checked_add(refund.amount_micros) else {
            continue;
        };
        if is_alike {
            known.amount_micros = amount_micros;
            known.base_amount_micros += refund.base_amount_micros;
            known.base_cost_micros += refund.base_cost_micros;
            known.count += refund.count;
            return;
        }
    }
    refunds.push(refund);
}

fn is_counted(entry: &Entry, model: &Model) -> Result<bool, Declined> {
    match &entry.version {
        Some(version) if entry.ordered_on.is_some() && !entry.is_cancelled => {
            Ok(!is_fully_refunded(version, &entry.refunds, model)?)
        }
        _ => Ok(false),
    }
}

/// Total above zero and timely refunds not below it, compared exactly.
fn is_fully_refunded(
    version: &Version,
    refunds: &[Refund],
    model: &Model,
) -> Result<bool, Declined> {
    if version.total_micros == 0 || refunds.is_empty() {
        return Ok(false);
    }
    let timely = || refunds.iter().filter(|refund| !refund.is_late);
    if timely().all(|refund| refund.currency == version.currency) {
        let refunded: i128 = timely()
            .map(|refund| i128::from(refund.amount_micros))
            .sum();
        return Ok(refunded >= i128::from(version.total_micros));
    }
    let worth = |micros: i64, currency: usize| {
        i128::from(micros).checked_mul(model.currencies[currency].rate)
    };
    let refunded = timely().try_fold(0_i128, |sum, refund| {
        sum.checked_add(worth(refund.amount_micros, refund.currency)?)
    });
    match (refunded, worth(version.total_micros, version.currency)) {
        (Some(refunded), Some(total)) => Ok(refunded >= total),
        _ => Err(Declined("refunds beyond 128 bits")),
    }
}

/// What an entry adds to each day, at present.
fn contributions(entry: &Entry, model: &Model) -> Result<Vec<DayMoney>, Declined> {
    let (Some(version), Some(ordered_on)) = (&entry.version, entry.ordered_on) else {
        return Ok(entry.refunds.iter().map(refunded).collect());
    };
    if entry.is_cancelled {
        return Ok(Vec::new());
    }
    let counted = is_counted(entry, model)?;
    let categories = if counted {
        version.categories.clone()
    } else {
        Vec::new()
    };
    if entry.is_cancelled_late {
        return Ok(if counted {
            vec![DayMoney {
                day: ordered_on,
                orders: 1,
                categories,
                ..DayMoney::default()
            }]
        } else {
            Vec::new()
        });
    }
    let money = entry.late_version.as_ref().unwrap_or(version);
    let total_micros = money.base_total_micros;
    let mut days = Vec::with_capacity(1 + entry.refunds.len());
    days.push(DayMoney {
        day: ordered_on,
        orders: i64::from(counted),
        counted_micros: if counted { total_micros } else { 0 },
        revenue_micros: total_micros,
        margin_micros: total_micros - money.base_cost_micros,
        categories,
        ..DayMoney::default()
    });
    days.extend(entry.refunds.iter().map(refunded));
    Ok(days)
}

fn refunded(refund: &Refund) -> DayMoney {
    DayMoney {
        day: refund.day,
        revenue_micros: -refund.base_amount_micros,
        margin_micros: refund.base_cost_micros - refund.base_amount_micros,
        refunded_micros: refund.base_amount_micros,
        refunds: refund.count,
        ..DayMoney::default()
    }
}
