//! A log of events: what of it can be taken, and in what order. Twin: `streams/replay/log.py`.

use foldhash::HashMap;
use std::borrow::Cow;

use crate::customer::Catalogue;
use crate::days::{day_of, DAY_US};
use crate::decode::{amount_micros, fields_of, is_id, is_short, time_us, Fields};
use crate::engagement::CountKey;
use crate::events::{Consent, Engagement, Event, Names, Purchase, PurchaseKind, Record};
use crate::model::Model;
use crate::Declined;

const LONGEST_GAP_DAYS: i64 = 400;
/// Days of customers' lives that are walked one by one, in all and for each customer: a log with more of them is
/// Python's, which passes long silences at once.
const MOST_DAYS: i64 = 1_000_000;
const MOST_DAYS_OF_EACH: i64 = 5_000;
const PURCHASES: u8 = 1;
const RESERVED_CHANNELS: [&str; 2] = ["automated", "none"];

struct KeyOfCount {
    kind: u32,
    channel: Option<u32>,
    is_automated: bool,
}

/// What became of a line.
pub enum Taken {
    Record,
    AfterUntil,
    /// Not plainly valid: Python says what it is.
    NotPlain,
}

/// Names that records and states share, by number.
pub struct SharedNames {
    count_keys: Names,
    of_count: Vec<KeyOfCount>,
    places: Names,
    categories: Names,
    kinds: HashMap<String, u32>,
    profiling: u32,
}

/// The records of a log, in the order in which they were read.
pub struct Log {
    pub records: Vec<Record>,
    pub customers: Names,
    pub names: SharedNames,
}

/// The records of each customer, in order, with all that they name.
pub struct OrderedLog {
    pub customers: Vec<Box<str>>,
    /// Where the records of each customer begin, and where those of the last end.
    pub starts: Vec<usize>,
    pub records: Vec<Record>,
    pub catalogue: Catalogue,
    pub end_us: i64,
}

impl Log {
    pub fn new(model: &Model) -> Self {
        Log {
            records: Vec::new(),
            customers: Names::default(),
            names: SharedNames::new(model),
        }
    }

    /// Take the line of a file; `plain` says the same in plain words, where it is not the line itself.
    pub fn take(
        &mut self,
        topic: u8,
        value: &[u8],
        plain: Option<&[u8]>,
        until_us: Option<i64>,
        model: &Model,
    ) -> Taken {
        self.try_take(topic, value, plain, until_us, model)
            .unwrap_or(Taken::NotPlain)
    }

    fn try_take(
        &mut self,
        topic: u8,
        value: &[u8],
        plain: Option<&[u8]>,
        until_us: Option<i64>,
        model: &Model,
    ) -> Option<Taken> {
        let mut fields = fields_of(topic, plain.unwrap_or(value))?;
        let event_id = id(&fields.event_id)?.into();
        let occurred_at_us = time_us(fields.occurred_at.as_deref()?)?;
        let kind = fields.kind.clone()?;
        let event = match topic {
            PURCHASES => Event::Purchase(self.names.purchase(&kind, &fields, model)?),
            0 if kind == "erasure" => Event::Erasure,
            0 => Event::Consent(self.names.consent(&kind, &fields)?),
            _ => Event::Engagement(self.names.engagement(&kind, &mut fields, model)?),
        };
        let customer_id = id(&fields.customer_id)?;
        if until_us.is_some_and(|until_us| occurred_at_us > until_us) {
            return Some(Taken::AfterUntil);
        }
        let attributes = match event {
            Event::Erasure => Vec::new(),
            _ => fields.attributes,
        };
        self.records.push(Record {
            occurred_at_us,
            topic,
            customer: self.customers.number(customer_id),
            event_id,
            attributes,
            event,
            value: value.into(),
        });
        Some(Taken::Record)
    }

    /// The records in replay order, by customer.
    pub fn ordered(self, until_us: Option<i64>, model: &Model) -> Result<OrderedLog, Declined> {
        let latest_us = self
            .records
            .iter()
            .map(|record| record.occurred_at_us)
            .max();
        let end_us = until_us.or(latest_us).unwrap_or(0);
        if until_us.is_none() && has_wrong_clocks(&self.records) {
            return Err(Declined("records of clocks that lie far apart"));
        }
        let (customers, customer_places) = self.customers.in_order();
        let (names, mut records) = (self.names, self.records);
        for record in &mut records {
            record.customer = customer_places[record.customer as usize];
        }
        records.sort_by(|left, right| {
            let key = |record: &Record| (record.customer, record.occurred_at_us, record.topic);
            key(left)
                .cmp(&key(right))
                .then_with(|| left.event_id.cmp(&right.event_id))
                .then_with(|| left.value.cmp(&right.value))
        });
        let mut starts: Vec<usize> = Vec::with_capacity(customers.len() + 1);
        for (at, record) in records.iter().enumerate() {
            while starts.len() <= record.customer as usize {
                starts.push(at);
            }
        }
        let first_us = starts.iter().map(|&at| records[at].occurred_at_us);
        let days: i64 = first_us
            .map(|first_us| day_of(end_us) - day_of(first_us))
            .sum();
        if days > MOST_DAYS + MOST_DAYS_OF_EACH * customers.len() as i64 {
            return Err(Declined("a log of silences of many years"));
        }
        starts.push(records.len());
        let catalogue = names.catalogue(model);
        Ok(OrderedLog {
            customers,
            starts,
            records,
            catalogue,
            end_us,
        })
    }
}

impl SharedNames {
    fn new(model: &Model) -> Self {
        let mut places = Names::default();
        SharedNames {
            count_keys: Names::default(),
            of_count: Vec::new(),
            profiling: places.number("profiling"),
            places,
            categories: Names::default(),
            kinds: model.given.kinds.keys().cloned().zip(0..).collect(),
        }
    }

    /// The number of a channel or a purpose.
    pub fn place(&mut self, name: &str) -> u32 {
        self.places.number(name)
    }

    /// The number of an item category.
    pub fn category(&mut self, name: &str) -> u32 {
        self.categories.number(name)
    }

    /// The number of a kind of engagement, which the model may not list any more.
    pub fn kind(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.kinds.get(name) {
            return number;
        }
        let number = self.kinds.len() as u32;
        self.kinds.insert(name.to_owned(), number);
        number
    }

    /// The number of a `channel.kind`; None for a name of another shape.
    pub fn count_key(&mut self, name: &str) -> Option<u32> {
        let number = self.count_keys.number(name);
        if number as usize == self.of_count.len() {
            let (channel, kind) = name.rsplit_once('.')?;
            let is_named = !RESERVED_CHANNELS.contains(&channel);
            let key = KeyOfCount {
                kind: self.kind(kind),
                channel: is_named.then(|| self.places.number(channel)),
                is_automated: channel == RESERVED_CHANNELS[0],
            };
            self.of_count.push(key);
        }
        Some(number)
    }

    fn purchase(&mut self, kind: &str, fields: &Fields<'_>, model: &Model) -> Option<Purchase> {
        let kind = match kind {
            "order" => PurchaseKind::Order,
            "order_updated" => PurchaseKind::OrderUpdated,
            "refund" => PurchaseKind::Refund,
            "cancellation" => PurchaseKind::Cancellation,
            _ => return None,
        };
        let currency = *model.currency_at.get(fields.currency.as_deref()?)?;
        let largest_micros = model.currencies[currency].largest_micros;
        let amount = |text: &str| amount_micros(text).filter(|&micros| micros <= largest_micros);
        channel_of(&fields.channel)?;
        let mut categories = Vec::new();
        for item in &fields.items {
            if let Some(price) = &item.unit_price {
                amount(price)?;
            }
            let category = item.category.as_deref().filter(|name| !name.is_empty());
            if let Some(category) = category.filter(|name| is_short(name)) {
                let number = self.categories.number(category);
                if !categories.contains(&number) {
                    categories.push(number);
                }
            }
        }
        Some(Purchase {
            kind,
            order_id: id(&fields.order_id)?.into(),
            currency,
            total_micros: amount(fields.total.as_deref()?)?,
            cost_of_goods_micros: match &fields.cost_of_goods {
                Some(text) => Some(amount(text)?),
                None => None,
            },
            categories,
        })
    }

    fn engagement(
        &mut self,
        kind: &str,
        fields: &mut Fields<'_>,
        model: &Model,
    ) -> Option<Engagement> {
        let kind_number = *self.kinds.get(kind)?;
        let channel = channel_of(&fields.channel)?;
        let currency = match fields.currency.as_deref() {
            Some(code) => Some(*model.currency_at.get(code)?),
            None => None,
        };
        let cost_micros = match fields.cost.as_deref() {
            Some(text) => {
                let currency = currency?;
                let micros = amount_micros(text)?;
                if micros > model.currencies[currency].largest_micros {
                    return None;
                }
                Some((micros, currency))
            }
            None => None,
        };
        let name = if fields.automated {
            format!("automated.{kind}")
        } else {
            format!("{}.{kind}", channel.unwrap_or("none"))
        };
        let count_key = self.count_keys.number(&name);
        if count_key as usize == self.of_count.len() {
            let channel = channel.filter(|_| !fields.automated);
            let channel = channel.map(|channel| self.places.number(channel));
            self.of_count.push(KeyOfCount {
                kind: kind_number,
                channel,
                is_automated: fields.automated,
            });
        }
        Some(Engagement {
            kind: kind_number,
            count_key,
            is_automated: fields.automated,
            cost_micros,
            declared: std::mem::take(&mut fields.declared),
        })
    }

    fn consent(&mut self, kind: &str, fields: &Fields<'_>) -> Option<Consent> {
        if kind != "consent" {
            return None;
        }
        Some(Consent {
            purpose: self.places.number(id(&fields.purpose)?),
            granted: fields.granted?,
            expires_at_us: match fields.expires_at.as_deref() {
                Some(text) => Some(time_us(text)?),
                None => None,
            },
        })
    }

    /// All names in order, with what the model says of them.
    pub fn catalogue(&self, model: &Model) -> Catalogue {
        let (place_names, place_places) = self.places.in_order();
        let (count_key_names, count_key_places) = self.count_keys.in_order();
        let (category_names, category_places) = self.categories.in_order();
        let mut of_kind = vec![(0.0, 0); self.kinds.len()];
        let mut kinds: Vec<Box<str>> = vec![Box::from(""); self.kinds.len()];
        for (kind, &number) in &self.kinds {
            of_kind[number as usize] = model.given.kinds.get(kind).copied().unwrap_or((0.0, 0));
            kinds[number as usize] = kind.as_str().into();
        }
        let mut count_keys: Vec<(u32, CountKey)> = self
            .of_count
            .iter()
            .zip(&count_key_places)
            .map(|(key, &place)| {
                let weight = of_kind[key.kind as usize].0;
                let key = CountKey {
                    channel: key.channel.map(|channel| place_places[channel as usize]),
                    weight: if key.is_automated { 0.0 } else { weight },
                };
                (place, key)
            })
            .collect();
        count_keys.sort_by_key(|(place, _)| *place);
        let is_channel = place_names
            .iter()
            .map(|name| {
                **name != *"profiling"
                    && !model
                        .given
                        .other_purposes
                        .iter()
                        .any(|other| **other == **name)
            })
            .collect();
        Catalogue {
            count_keys: count_keys.into_iter().map(|(_, key)| key).collect(),
            count_key_names,
            profiling: place_places[self.profiling as usize],
            places: place_names,
            is_channel,
            categories: category_names,
            kinds,
            weight_of_kind: of_kind.iter().map(|(weight, _)| *weight).collect(),
            unit_cost_of_kind: of_kind.iter().map(|(_, cost)| *cost).collect(),
            acquired: self.kinds.get("acquired").copied(),
            count_key_places,
            place_places,
            category_places,
        }
    }
}

fn id<'a>(text: &'a Option<Cow<'_, str>>) -> Option<&'a str> {
    text.as_deref().filter(|text| is_id(text))
}

/// A channel, or Some(None) where there is none; None for a name that is not plainly one.
fn channel_of<'a>(name: &'a Option<Cow<'_, str>>) -> Option<Option<&'a str>> {
    let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else {
        return Some(None);
    };
    (is_short(name) && !RESERVED_CHANNELS.contains(&name)).then_some(Some(name))
}

/// Whether something comes a long time after most of the log.
fn has_wrong_clocks(records: &[Record]) -> bool {
    let mut times: Vec<(i64, bool)> = records
        .iter()
        .map(|record| (record.occurred_at_us, record.topic == PURCHASES))
        .collect();
    times.sort_unstable();
    let mut pieces = vec![(0_u64, 0_u64)];
    let mut before_us = None;
    for (at_us, is_purchase) in times {
        if before_us.is_some_and(|before_us| at_us - before_us > LONGEST_GAP_DAYS * DAY_US) {
            pieces.push((0, 0));
        }
        before_us = Some(at_us);
        if let Some(piece) = pieces.last_mut() {
            piece.0 += u64::from(is_purchase);
            piece.1 += 1;
        }
    }
    let has_purchases = pieces.iter().any(|piece| piece.0 > 0);
    let size = |piece: &(u64, u64)| if has_purchases { piece.0 } else { piece.1 };
    let last = size(&pieces[pieces.len() - 1]);
    pieces.iter().any(|piece| size(piece) > last)
}
