//! Engagement as day buckets, and what customers declared. Twin: `enrichment/customer/engagement.py`.

use std::collections::BTreeMap;

use crate::days::DAY_US;
use crate::events::Answer;

const COST_WINDOW_DAYS: i64 = 365;

/// What is known of each `channel.kind`, by its number.
pub struct CountKey {
    /// The number of the channel; None for interactions without one, and automated ones.
    pub channel: Option<u32>,
    /// What one interaction adds to engagement.
    pub weight: f64,
}

/// One UTC day: interactions by the number of `channel.kind`, ascending, and what they come to.
pub struct DayEngagement {
    pub day: i64,
    pub counts: Vec<(u32, i64)>,
    pub cost_micros: i64,
    pub points: f64,
}

/// The latest value of one key.
#[derive(Clone)]
pub struct Latest<T> {
    pub occurred_at_us: i64,
    pub event_id: Box<str>,
    pub value: T,
}

/// Values by key, the latest of each.
pub type Held<T> = BTreeMap<Box<str>, Latest<T>>;

/// One customer's engagement; `last_day_by_kind` leaves automated interactions out.
#[derive(Default)]
pub struct EngagementState {
    pub days: Vec<DayEngagement>,
    pub last_day_by_kind: Vec<(u32, i64)>,
    pub cost_to_acquire_micros: i64,
    pub gross_cost_micros: i64,
    pub declared: Held<Answer>,
}

/// One interaction, as it is counted.
pub struct Touch {
    pub day: i64,
    pub kind: u32,
    pub count_key: u32,
    pub is_automated: bool,
    pub is_acquisition: bool,
    pub cost_micros: i64,
}

impl EngagementState {
    /// Enter one accepted interaction; tells whether it was a scored engagement.
    pub fn apply(&mut self, touch: &Touch, keys: &[CountKey]) -> bool {
        self.gross_cost_micros += touch.cost_micros;
        let mut cost_to_serve = touch.cost_micros;
        if touch.is_acquisition {
            self.cost_to_acquire_micros += touch.cost_micros;
            cost_to_serve = 0;
        }
        self.count(touch.day, touch.count_key, cost_to_serve, keys);
        if !touch.is_automated {
            match self
                .last_day_by_kind
                .iter_mut()
                .find(|(kind, _)| *kind == touch.kind)
            {
                Some((_, last)) => *last = touch.day.max(*last),
                None => self.last_day_by_kind.push((touch.kind, touch.day)),
            }
        }
        keys[touch.count_key as usize].weight > 0.0
    }

    /// The day of the newest interaction of a kind with positive weight.
    pub fn last_engaged_day(&self, weight_of_kind: &[f64]) -> Option<i64> {
        self.last_day_by_kind
            .iter()
            .filter(|(kind, _)| weight_of_kind[*kind as usize] > 0.0)
            .map(|(_, day)| *day)
            .max()
    }

    /// Delete engagement and declared data dated before a time; costs to acquire carry no day and go too.
    pub fn forget_before(&mut self, keep_from_us: i64) {
        let first_day = -(-keep_from_us).div_euclid(DAY_US);
        self.days.retain(|bucket| bucket.day >= first_day);
        self.last_day_by_kind.retain(|(_, day)| *day >= first_day);
        self.cost_to_acquire_micros = 0;
        self.gross_cost_micros = 0;
        forget_before(&mut self.declared, keep_from_us);
    }

    fn count(&mut self, day: i64, key: u32, cost_micros: i64, keys: &[CountKey]) {
        let at = self.days.partition_point(|bucket| bucket.day < day);
        if at == self.days.len() {
            let old = self
                .days
                .partition_point(|bucket| bucket.day <= day - COST_WINDOW_DAYS);
            self.days.drain(..old);
            self.days.push(DayEngagement::of(day));
        } else if self.days[at].day != day {
            self.days.insert(at, DayEngagement::of(day));
        }
        let at = self.days.partition_point(|bucket| bucket.day < day);
        let bucket = &mut self.days[at];
        bucket.cost_micros += cost_micros;
        let place = bucket.counts.partition_point(|(known, _)| *known < key);
        match bucket.counts.get_mut(place) {
            Some((known, count)) if *known == key => *count += 1,
            _ => bucket.counts.insert(place, (key, 1)),
        }
        bucket.weigh(keys);
    }
}

impl DayEngagement {
    /// Make the points that the counts come to.
    pub fn weigh(&mut self, keys: &[CountKey]) {
        self.points = self.counts.iter().fold(0.0, |points, &(key, count)| {
            points + keys[key as usize].weight * count as f64
        });
    }

    fn of(day: i64) -> Self {
        DayEngagement {
            day,
            counts: Vec::new(),
            cost_micros: 0,
            points: 0.0,
        }
    }
}

/// Give each key its latest value; tells whether that changed any.
pub fn hold_latest<T: Clone>(
    held: &mut Held<T>,
    values: &[(Box<str>, T)],
    occurred_at_us: i64,
    event_id: &str,
) -> bool {
    let mut is_changed = false;
    for (key, value) in values {
        let is_later = held.get(key).is_none_or(|known| {
            (occurred_at_us, event_id) > (known.occurred_at_us, &known.event_id)
        });
        if is_later {
            let latest = Latest {
                occurred_at_us,
                event_id: event_id.into(),
                value: value.clone(),
            };
            held.insert(key.clone(), latest);
            is_changed = true;
        }
    }
    is_changed
}

/// Without the values dated before a time.
pub fn forget_before<T>(held: &mut Held<T>, keep_from_us: i64) {
    held.retain(|_, latest| latest.occurred_at_us >= keep_from_us);
}
