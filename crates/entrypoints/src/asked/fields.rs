//! From what stands in a body, a path or a query string to values that cannot be wrong, with every fault named.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use allocation_domain::commands::{Rest, ReturnTo, WhenShort};
use allocation_domain::{
    AdjustmentKind, BatchQuantity, BatchRef, Eta, HoldSeconds, LineId, LineKey, LineState, Location, OrderId, Quantity,
    Reason, Seniority, Sku, Strategy,
};
use allocation_service_layer::wire::{TOPICS, event_type, parse_date};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use time::Date;
use utoipa::ToSchema;

/// A field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// The field, as `lines[0].qty`.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) detail: String,
}

/// Something that was asked for can't be: everything that is wrong with it.
#[derive(Debug)]
pub(crate) struct Invalid(pub(crate) Vec<FieldError>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, FieldError { field, detail }) in self.0.iter().enumerate() {
            write!(f, "{}{field}: {detail}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// A value of JSON that has no parts, or the fact that it has.
pub(crate) enum Scalar<'a> {
    Null,
    Truth(bool),
    Whole(u64),
    Negative(i64),
    Text(&'a str),
    Other,
}

/// What can be made of one value of JSON or one text.
pub(crate) trait Parse: Sized {
    fn parse(value: &Scalar<'_>) -> Result<Self, String>;
}

macro_rules! parse_key {
    ($($key:ty),*) => {$(
        impl Parse for $key {
            fn parse(value: &Scalar<'_>) -> Result<Self, String> {
                match value {
                    Scalar::Text(text) => Self::new(*text).map_err(|error| error.to_string()),
                    _ => Err("must be a text".into()),
                }
            }
        }
    )*};
}
parse_key!(Sku, OrderId, BatchRef, LineId, Location, Reason);

macro_rules! parse_quantity {
    ($($quantity:ty),*) => {$(
        impl Parse for $quantity {
            fn parse(value: &Scalar<'_>) -> Result<Self, String> {
                match value {
                    Scalar::Whole(units) => Self::new(*units).map_err(|error| error.to_string()),
                    // Whatever else it is, the bounds say what it should have been.
                    _ => Self::new(u64::MAX).map_err(|error| error.to_string()),
                }
            }
        }
    )*};
}
parse_quantity!(Quantity, BatchQuantity, HoldSeconds);

/// A quantity in a query string, where every value is a text.
pub(crate) struct QueryQuantity(pub(crate) Quantity);

impl Parse for QueryQuantity {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        let units = u64::parse(value).unwrap_or(u64::MAX);
        Quantity::new(units).map(Self).map_err(|error| error.to_string())
    }
}

impl Parse for bool {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        match value {
            Scalar::Truth(truth) => Ok(*truth),
            _ => Err("must be true or false".into()),
        }
    }
}

impl Parse for i32 {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        let number = match value {
            Scalar::Whole(number) => Self::try_from(*number).ok(),
            Scalar::Negative(number) => Self::try_from(*number).ok(),
            _ => None,
        };
        number.ok_or_else(|| format!("must be a whole number from {} to {}", Self::MIN, Self::MAX))
    }
}

/// A number of days: 0 to 3,650.
pub(crate) struct Days(pub(crate) u16);

impl Parse for Days {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        const MAX: u16 = 3_650;
        let days = if let Scalar::Whole(days) = value { u16::try_from(*days).ok() } else { None };
        days.filter(|days| *days <= MAX).map(Self).ok_or_else(|| format!("must be a whole number from 0 to {MAX}"))
    }
}

impl Parse for Option<Days> {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        match value {
            Scalar::Null => Ok(None),
            value => Days::parse(value).map(Some).map_err(|error| format!("{error}, or null")),
        }
    }
}

impl Parse for Option<Strategy> {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        match value {
            Scalar::Null => Ok(None),
            value => Strategy::parse(value).map(Some).map_err(|error| format!("{error}, or null")),
        }
    }
}

impl Parse for Option<u64> {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        match value {
            Scalar::Null => Ok(None),
            // In a body a number is no text.
            Scalar::Text(_) => Err(format!("{WHOLE}, or null")),
            value => u64::parse(value).map(Some).map_err(|error| format!("{error}, or null")),
        }
    }
}

/// A number of units in a body, where a number is no text.
#[derive(Default)]
pub(crate) struct Units(pub(crate) u64);

impl Parse for Units {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        match value {
            Scalar::Text(_) => Err(WHOLE.into()),
            value => u64::parse(value).map(Self),
        }
    }
}

/// What is said by one of a few words.
pub(crate) trait Words {
    /// All of them.
    const WORDS: &[&str];
}

/// Reads one of a few words.
macro_rules! parse_word {
    ($name:ty: $($word:literal => $value:expr),*; $must:literal) => {
        impl Words for $name {
            const WORDS: &[&str] = &[$($word),*];
        }

        impl Parse for $name {
            fn parse(value: &Scalar<'_>) -> Result<Self, String> {
                match value {
                    $(Scalar::Text($word) => Ok($value),)*
                    _ => Err($must.into()),
                }
            }
        }
    };
}
parse_word!(WhenShort: "reject" => Self::Reject, "partial" => Self::Partial, "backorder" => Self::Backorder;
    "must be reject, partial or backorder");
parse_word!(ReturnTo: "quarantine" => Self::Quarantine, "restock" => Self::Restock, "scrap" => Self::Scrap;
    "must be quarantine, restock or scrap");
parse_word!(AdjustmentKind: "damaged" => Self::Damaged, "found" => Self::Found, "recount" => Self::Recount;
    "must be damaged, found or recount");
parse_word!(Strategy: "earliest" => Self::Earliest, "fefo" => Self::Fefo, "fifo" => Self::Fifo,
    "fewest_splits" => Self::FewestSplits, "location_priority" => Self::LocationPriority;
    "must be earliest, fefo, fifo, fewest_splits or location_priority");
parse_word!(Rest: "keep" => Self::Keep, "cancel" => Self::Cancel; "must be keep or cancel");

impl Parse for Eta {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        let date = match value {
            Scalar::Null => return Ok(None),
            Scalar::Text(text) => parse_date(text),
            _ => None,
        };
        date.map(Some).ok_or_else(|| "must be a date like 2011-01-02, or null".into())
    }
}

const WHOLE: &str = "must be a whole number from 0";

impl Parse for Date {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        let date = if let Scalar::Text(text) = value { parse_date(text) } else { None };
        date.ok_or_else(|| "must be a date like 2011-01-02".into())
    }
}

impl Parse for u64 {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        let whole = match value {
            Scalar::Whole(number) => Some(*number),
            // Rust would read a sign, too.
            Scalar::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        };
        // Positions and sequence numbers fit 63 bits in every store.
        whole.filter(|number| i64::try_from(*number).is_ok()).ok_or_else(|| WHOLE.into())
    }
}

/// How many items a page has: 1 to 1,000; 100 unless said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit(pub(crate) usize);

impl Limit {
    /// The most items on a page.
    pub(crate) const MAX: u64 = 1_000;
}

impl Parse for Limit {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        let limit = u64::parse(value).ok().filter(|limit| (1..=Self::MAX).contains(limit));
        limit
            .and_then(|limit| usize::try_from(limit).ok())
            .map(Self)
            .ok_or_else(|| format!("must be a whole number from 1 to {}", Self::MAX))
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(100)
    }
}

/// For how many seconds an answer may be waited for: 0 to 60; none unless said.
#[derive(Default)]
pub(crate) struct Wait(pub(crate) Duration);

/// For how long one may wait.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_mins(1);

impl Parse for Wait {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        let wait = u64::parse(value).ok().map(Duration::from_secs).filter(|wait| *wait <= LONGEST_WAIT);
        wait.map(Self).ok_or_else(|| format!("must be a whole number from 0 to {}", LONGEST_WAIT.as_secs()))
    }
}

/// The name of a kind of events: `line_allocated`, or its whole type, `allocation.line_allocated.v1`.
pub(crate) struct Topic(pub(crate) &'static str);

impl Parse for Topic {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        let known = |text: &str| TOPICS.iter().find(|topic| text == **topic || text == event_type(topic));
        let topic = if let Scalar::Text(text) = value { known(text) } else { None };
        topic.map(|topic| Self(topic)).ok_or_else(|| "must be a type of event such as line_allocated".into())
    }
}

impl Parse for LineState {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        let known = |text: &str| Self::ALL.into_iter().find(|state| state.name() == text);
        let state = if let Scalar::Text(text) = value { known(text) } else { None };
        state.ok_or_else(|| format!("must be one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// A place in a queue, opaque to clients: the seniority of the units before it.
pub(crate) struct QueueCursor(pub(crate) Seniority);

impl fmt::Display for QueueCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Reverse(priority), accepted) = self.0;
        f.write_str(&URL_SAFE_NO_PAD.encode(format!("{priority} {accepted}")))
    }
}

impl Parse for QueueCursor {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        let Scalar::Text(text) = value else { return Err("must be the `next` of another page".into()) };
        let read = || {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
            let (priority, accepted) = text.split_once(' ')?;
            Some(Self((Reverse(priority.parse().ok()?), accepted.parse().ok()?)))
        };
        read().ok_or_else(|| "must be the `next` of another page".into())
    }
}

/// A place in a list of lines, opaque to clients: the line before it.
pub(crate) struct LineCursor(pub(crate) LineKey);

impl fmt::Display for LineCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No key has a control character in it.
        let text = format!("{}\n{}", self.0.line, self.0.order_id);
        f.write_str(&URL_SAFE_NO_PAD.encode(text))
    }
}

impl Parse for LineCursor {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        let Scalar::Text(text) = value else { return Err("must be a text".into()) };
        let decoded = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let key = decoded.as_deref().and_then(|text| text.split_once('\n')).and_then(|(line, order_id)| {
            Some(LineKey { order_id: OrderId::new(order_id).ok()?, line: LineId::new(line).ok()? })
        });
        key.map(Self).ok_or_else(|| "must be `next` of the page before".into())
    }
}

/// A field of a body: not there, good, or bad with the reason. Reading it never fails, so that all faults can be told at once.
#[derive(Default)]
pub(crate) enum Field<T> {
    #[default]
    Missing,
    Good(T),
    Bad(String),
}

impl<T: Parse> From<Scalar<'_>> for Field<T> {
    fn from(value: Scalar<'_>) -> Self {
        T::parse(&value).map_or_else(Self::Bad, Self::Good)
    }
}

impl<'de, T: Parse> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(PhantomData))
    }
}

/// A number with a fraction; to JSON Schema 5.0 is as whole as 5.
fn whole(number: f64) -> Scalar<'static> {
    // Written without an exponent, and of a whole number without a fraction.
    let text = number.to_string();
    text.parse().map(Scalar::Whole).or_else(|_| text.parse().map(Scalar::Negative)).unwrap_or(Scalar::Other)
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Parse> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Field<T>, E> {
        Ok(Scalar::Null.into())
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Field<T>, E> {
        Ok(Scalar::Truth(truth).into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Field<T>, E> {
        Ok(Scalar::Whole(number).into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Field<T>, E> {
        Ok(Scalar::Negative(number).into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Field<T>, E> {
        Ok(whole(number).into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Field<T>, E> {
        Ok(Scalar::Text(text).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Field<T>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Field<T>, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other.into())
    }
}

/// A field of a body that is a list: not there, null, given, or something else.
#[derive(Default, Deserialize)]
#[serde(untagged)]
pub(crate) enum ListField<T: Parse> {
    #[default]
    #[serde(skip)]
    Missing,
    Null(()),
    #[serde(bound = "")]
    Given(Vec<Field<T>>),
    Bad(IgnoredAny),
}

/// A field of a body that has fields of its own, or something else.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Object<T> {
    Good(T),
    Other(IgnoredAny),
}

/// Fields of a body that nobody knows.
pub(crate) type Unknown = BTreeMap<String, IgnoredAny>;

/// Gathers what is wrong with a request.
#[derive(Default)]
pub(crate) struct Faults(Vec<FieldError>);

impl Faults {
    pub(crate) fn add(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), detail: detail.into() });
    }

    pub(crate) fn required<T>(&mut self, name: impl Into<String>, field: Field<T>) -> Option<T> {
        match field {
            Field::Good(value) => return Some(value),
            Field::Missing => self.add(name, "is missing"),
            Field::Bad(why) => self.add(name, why),
        }
        None
    }

    pub(crate) fn optional<T>(&mut self, name: impl Into<String>, field: Field<T>) -> Option<T> {
        match field {
            Field::Missing => None,
            given => self.required(name, given),
        }
    }

    pub(crate) fn unknown(&mut self, prefix: &str, unknown: &Unknown) {
        for name in unknown.keys() {
            self.add(format!("{prefix}{name}"), "is not a known field");
        }
    }

    /// The value, if nothing at all was wrong.
    pub(crate) fn or<T>(self, value: Option<T>) -> Result<T, Invalid> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Invalid(self.0)),
        }
    }
}

/// What is asked about, by name: the parameters of a path, or fields of a message. Each a text, or the fact that it is none.
#[derive(Debug, Default)]
pub(crate) struct Names(pub(crate) Vec<(String, Option<String>)>);

impl Names {
    /// These, and one more if it was given.
    pub(crate) fn with(mut self, name: &str, value: Option<String>) -> Self {
        self.0.extend(value.map(|value| (name.to_owned(), Some(value))));
        self
    }

    /// The text of a name that is there.
    pub(crate) fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.and_then(|(_, value)| value.as_deref()).unwrap_or_default()
    }

    fn field<T: Parse>(&self, name: &str) -> Field<T> {
        match self.0.iter().find(|(known, _)| known == name) {
            None => Field::Missing,
            Some((_, Some(text))) => Scalar::Text(text).into(),
            Some((_, None)) => Scalar::Other.into(),
        }
    }

    pub(crate) fn get<T: Parse>(&self, faults: &mut Faults, name: &str) -> Option<T> {
        faults.required(name, self.field(name))
    }

    pub(crate) fn optional<T: Parse>(&self, faults: &mut Faults, name: &str) -> Option<T> {
        faults.optional(name, self.field(name))
    }

    /// The batch that `sku` and `ref` name.
    pub(crate) fn batch(&self, faults: &mut Faults) -> Option<(Sku, BatchRef)> {
        let sku = self.get(faults, "sku");
        let reference = self.get(faults, "ref");
        sku.zip(reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Parse>(json: &str) -> Option<T> {
        match serde_json::from_str::<Field<T>>(json).unwrap() {
            Field::Good(value) => Some(value),
            Field::Missing | Field::Bad(_) => None,
        }
    }

    #[test]
    fn a_number_is_whole_however_it_is_written() {
        for five in ["5", "5.0", "5e0", "50e-1"] {
            assert_eq!(read::<Quantity>(five).unwrap().units(), 5, "{five}");
        }
        assert_eq!(read::<i32>("-38285824.0"), Some(-38_285_824));
        assert_eq!(read::<i32>("-0.0"), Some(0));
        for bad in ["5.5", "-5.0", "1e300", "0.0"] {
            assert_eq!(read::<Quantity>(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_number_in_a_query_string_is_digits() {
        assert_eq!(u64::parse(&Scalar::Text("5")), Ok(5));
        for bad in ["+5", "-5", "5.0", "", " 5", "9223372036854775808"] {
            assert!(u64::parse(&Scalar::Text(bad)).is_err(), "{bad}");
        }
    }
}
