//! From a line to what it says, for lines that are plainly valid. Twin: `schemas/fast_path.py`, and
//! `check_against_model` in `enrichment/customer/validation.py`.
//!
//! What is not taken here may still be valid: Python reads it again, and hands it over in plain words.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::days::parse_plain_time;
use crate::events::Answer;

const MAX_VALUE_BYTES: usize = 1_048_576;
/// The longest id, kind, channel or purpose, in code points.
pub const MAX_NAME_CHARACTERS: usize = 128;
const MAX_QUANTITY: f64 = 1e9;

/// The fields of a record of any topic; those of other topics stay None.
#[derive(Default)]
pub struct Fields<'a> {
    pub event_id: Option<Cow<'a, str>>,
    pub customer_id: Option<Cow<'a, str>>,
    pub occurred_at: Option<Cow<'a, str>>,
    pub attributes: Vec<(Box<str>, Box<str>)>,
    pub kind: Option<Cow<'a, str>>,
    pub order_id: Option<Cow<'a, str>>,
    pub currency: Option<Cow<'a, str>>,
    pub total: Option<Cow<'a, str>>,
    pub cost_of_goods: Option<Cow<'a, str>>,
    pub channel: Option<Cow<'a, str>>,
    pub items: Vec<Item<'a>>,
    pub automated: bool,
    pub cost: Option<Cow<'a, str>>,
    pub declared: Vec<(Box<str>, Answer)>,
    pub purpose: Option<Cow<'a, str>>,
    pub granted: Option<bool>,
    pub expires_at: Option<Cow<'a, str>>,
}

/// A line of an order.
#[derive(Default)]
pub struct Item<'a> {
    pub category: Option<Cow<'a, str>>,
    pub unit_price: Option<Cow<'a, str>>,
}

/// The fields of a value, or None where it is not plain; `topic` as in `Record`.
pub fn fields_of(topic: u8, value: &[u8]) -> Option<Fields<'_>> {
    if value.len() > MAX_VALUE_BYTES {
        return None;
    }
    // All of it must be UTF-8, what is ignored too.
    let text = std::str::from_utf8(value).ok()?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let fields = reader.deserialize_map(OfTopic(topic)).ok()?;
    reader.end().ok()?;
    Some(fields)
}

/// A time, or None where it is not plain.
pub fn time_us(text: &str) -> Option<i64> {
    parse_plain_time(text)
}

/// Micro-units of a decimal string of at most 12 digits before the point; None for any other text.
pub fn amount_micros(text: &str) -> Option<i64> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (text, ""),
    };
    if whole.is_empty() || whole.len() > 12 || fraction.len() > 6 {
        return None;
    }
    let mut micros = 0_i64;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if !byte.is_ascii_digit() {
            return None;
        }
        micros = micros * 10 + i64::from(byte - b'0');
    }
    Some(micros * 10_i64.pow(6 - fraction.len() as u32))
}

/// Whether a text has at most 128 code points.
pub fn is_short(text: &str) -> bool {
    text.len() <= MAX_NAME_CHARACTERS || text.chars().count() <= MAX_NAME_CHARACTERS
}

/// Whether a text has 1 to 128 code points.
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && is_short(text)
}

struct OfTopic(u8);

impl<'de> Visitor<'de> for OfTopic {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(Text(name)) = map.next_key()? {
            match (&*name, self.0) {
                ("event_id", _) => fields.event_id = optional(&mut map)?,
                ("customer_id", _) => fields.customer_id = optional(&mut map)?,
                ("occurred_at", _) => fields.occurred_at = optional(&mut map)?,
                ("kind", _) => fields.kind = optional(&mut map)?,
                ("attributes", _) => fields.attributes = map.next_value::<Strings>()?.0,
                ("order_id", 1) => fields.order_id = optional(&mut map)?,
                ("currency", 1 | 2) => fields.currency = optional(&mut map)?,
                ("total", 1) => fields.total = optional(&mut map)?,
                ("cost_of_goods", 1) => fields.cost_of_goods = optional(&mut map)?,
                ("channel", 1 | 2) => fields.channel = optional(&mut map)?,
                ("items", 1) => {
                    fields.items = map.next_value::<Option<Vec<Item>>>()?.unwrap_or_default();
                }
                ("campaign_id", 2) => {
                    optional(&mut map)?;
                }
                ("automated", 2) => {
                    fields.automated = map.next_value::<Option<bool>>()?.unwrap_or(false);
                }
                ("cost", 2) => fields.cost = optional(&mut map)?,
                ("score", 2) => {
                    map.next_value::<Option<f64>>()?;
                }
                ("declared", 2) => fields.declared = map.next_value::<Answers>()?.0,
                ("purpose", 0) => fields.purpose = optional(&mut map)?,
                ("granted", 0) => fields.granted = map.next_value()?,
                ("expires_at", 0) => fields.expires_at = optional(&mut map)?,
                _ => {
                    map.next_value::<Ignored>()?;
                }
            }
        }
        Ok(fields)
    }
}

fn optional<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Cow<'de, str>>, A::Error> {
    Ok(map.next_value::<Option<Text>>()?.map(|text| text.0))
}

/// A string, borrowed where it is not escaped.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

impl<'de> Deserialize<'de> for Item<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item<'de>, A::Error> {
        let mut item = Item::default();
        while let Some(Text(name)) = map.next_key()? {
            match &*name {
                "sku" => {
                    optional(&mut map)?;
                }
                "category" => item.category = optional(&mut map)?,
                "unit_price" => item.unit_price = optional(&mut map)?,
                "quantity" => {
                    let quantity = map.next_value::<Option<f64>>()?.unwrap_or(1.0);
                    if !(0.0..=MAX_QUANTITY).contains(&quantity) {
                        return Err(de::Error::custom("a quantity out of range"));
                    }
                }
                _ => {
                    map.next_value::<Ignored>()?;
                }
            }
        }
        Ok(item)
    }
}

/// Texts by key, the last of each; null is none.
struct Strings(Vec<(Box<str>, Box<str>)>);
/// Answers by key, the last of each; null is none.
struct Answers(Vec<(Box<str>, Answer)>);

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = deserializer.deserialize_option(Pairs::<Text>(std::marker::PhantomData))?;
        let owned = |(key, Text(text)): (Box<str>, Text)| (key, Box::from(&*text));
        Ok(Strings(pairs.into_iter().map(owned).collect()))
    }
}

impl<'de> Deserialize<'de> for Answers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Answers(deserializer.deserialize_option(
            Pairs::<Answer>(std::marker::PhantomData),
        )?))
    }
}

struct Pairs<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
    type Value = Vec<(Box<str>, T)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a flat object")
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs: Vec<(Box<str>, T)> = Vec::new();
        while let Some((Text(name), value)) = map.next_entry::<Text, T>()? {
            match pairs.iter_mut().find(|(known, _)| **known == *name) {
                Some(pair) => pair.1 = value,
                None => pairs.push((Box::from(&*name), value)),
            }
        }
        Ok(pairs)
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnswerVisitor)
    }
}

struct AnswerVisitor;

impl Visitor<'_> for AnswerVisitor {
    type Value = Answer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number or a boolean")
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Answer, E> {
        Ok(Answer::Truth(truth))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Answer, E> {
        Ok(Answer::Whole(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Answer, E> {
        Ok(i64::try_from(number).map_or(Answer::Large(number), Answer::Whole))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Answer, E> {
        // `-0` is read by one library as a whole number, by another as none.
        if number == 0.0 && number.is_sign_negative() {
            return Err(E::custom("a negative zero"));
        }
        Ok(Answer::Number(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Answer, E> {
        Ok(Answer::Text(text.into()))
    }
}

/// A value that is not read, and must be valid nevertheless: numbers beyond doubles and halves of surrogates are not.
struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IgnoredVisitor)
    }
}

struct IgnoredVisitor;

impl<'de> Visitor<'de> for IgnoredVisitor {
    type Value = Ignored;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Ignored, E> {
        Ok(Ignored)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Ignored, E> {
        Ok(Ignored)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Ignored, E> {
        Ok(Ignored)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Ignored, E> {
        Ok(Ignored)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Ignored, E> {
        Ok(Ignored)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Ignored, E> {
        Ok(Ignored)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ignored, A::Error> {
        while seq.next_element::<Ignored>()?.is_some() {}
        Ok(Ignored)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ignored, A::Error> {
        while map.next_entry::<Text, Ignored>()?.is_some() {}
        Ok(Ignored)
    }
}
