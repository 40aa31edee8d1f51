//! What values look like in the documents of the API and of messages: as [`super::fields::Parse`] takes them.
//!
//! JSON Schema can't say all of it: a key is limited in bytes, not in characters, a date must be a day of its month, and what one field means for
//! another is for the handlers to tell.

use std::borrow::Cow;

use allocation_domain::commands::{Rest, ReturnTo, WhenShort};
use allocation_domain::{AdjustmentKind, BatchQuantity, HoldSeconds, LineState, Quantity, Strategy};
use allocation_service_layer::sinks::Begin;
use allocation_service_layer::wire::{TOPICS, event_type};
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{KnownFormat, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::fields::{LONGEST_WAIT, Limit, Words};

/// What a character of a key is at its ends: no control character, and no space of any kind. Written out, since regular expressions do not agree on `\s`.
const OUTER: &str = r"[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]";
/// And elsewhere.
const INNER: &str = r"[^\u0000-\u001f\u007f-\u009f]";

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A key of so many bytes.
fn key(most: usize) -> Object {
    let pattern = format!(r"^(?!\.\.?$){OUTER}(?:{INNER}*{OUTER})?$");
    text().min_length(Some(1)).max_length(Some(most)).pattern(Some(pattern)).build()
}

fn whole(least: u64, most: u64) -> Object {
    let format = SchemaFormat::KnownFormat(KnownFormat::Int64);
    let number = ObjectBuilder::new().schema_type(Type::Integer).format(Some(format));
    number.minimum(Some(least)).maximum(Some(most)).build()
}

fn one_of(words: impl IntoIterator<Item = impl Into<String>>) -> Object {
    text().enum_values(Some(words.into_iter().map(Into::into))).build()
}

macro_rules! schemas {
    ($($(#[$doc:meta])* $name:ident: $schema:expr;)*) => {
        /// All of them, by name.
        pub(crate) fn all() -> impl Iterator<Item = (String, RefOr<Schema>)> {
            let all: &[(&str, fn() -> RefOr<Schema>)] = &[$((stringify!($name), $name::schema)),*];
            all.iter().map(|(name, schema)| ((*name).to_owned(), schema()))
        }

        $(
        $(#[$doc])*
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                Schema::Object($schema).into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }
        }
        )*
    };
}

schemas! {
    /// A product's name.
    Sku: key(allocation_domain::Sku::MAX_BYTES);
    /// An order's name.
    OrderId: key(allocation_domain::OrderId::MAX_BYTES);
    /// A shipment's reference.
    BatchRef: key(allocation_domain::BatchRef::MAX_BYTES);
    /// What tells an order's lines for one SKU apart.
    LineId: key(allocation_domain::LineId::MAX_BYTES);
    /// A location's name.
    Location: key(allocation_domain::Location::MAX_BYTES);
    /// Why something was done.
    Reason: key(allocation_domain::Reason::MAX_BYTES);
    /// What names a request.
    IdempotencyKey: text().min_length(Some(1)).max_length(Some(255)).pattern(Some(r#"^(?!""?$)[!-~](?:[ -~]*[!-~])?$"#)).build();
    /// What `If-Match` has.
    Tags: text().build();
    /// How far a reader of events is, if it says so.
    LastEventId: text().pattern(Some("^[0-9]{0,19}$")).build();
    /// A day.
    Day: text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Date)))
        .pattern(Some("^[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])$")).examples(["2011-01-02"]).build();
    /// Units of a line.
    Units: whole(1, Quantity::MAX);
    /// Units of a batch.
    BatchUnits: whole(0, BatchQuantity::MAX);
    /// Seconds of a hold.
    Seconds: whole(1, HoldSeconds::MAX);
    /// A position or a count, as every store has it.
    Count: whole(0, i64::MAX.unsigned_abs());
    /// How many there are on a page.
    PageSize: whole(1, Limit::MAX);
    /// How long is waited.
    WaitSeconds: whole(0, LONGEST_WAIT.as_secs());
    /// Who goes first.
    Priority: ObjectBuilder::new().schema_type(Type::Integer).format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
        .minimum(Some(i32::MIN)).maximum(Some(i32::MAX)).build();
    /// What to do when there is not enough.
    WhenShortName: one_of(WhenShort::WORDS.to_vec());
    /// What becomes of what comes back.
    ReturnToName: one_of(ReturnTo::WORDS.to_vec());
    /// What was found.
    AdjustmentName: one_of(AdjustmentKind::WORDS.to_vec());
    /// What becomes of the rest.
    RestName: one_of(Rest::WORDS.to_vec());
    /// Which batches go first.
    StrategyName: one_of(Strategy::WORDS.to_vec());
    /// How a ledger is written.
    FormatName: one_of(["json", "csv"]);
    /// What has become of a line.
    StateName: one_of(LineState::ALL.map(LineState::name));
    /// Where a webhook begins.
    BeginName: one_of(Begin::ALL.map(Begin::name));
    /// What a webhook is to be.
    ActiveName: one_of(["active", "paused"]);
    /// A webhook's name.
    WebhookId: text().format(Some(SchemaFormat::Custom("uuid".into())))
        .pattern(Some("^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$")).build();
    /// A kind of events, by its short name or its whole.
    TopicName: one_of(TOPICS.iter().map(ToString::to_string).chain(TOPICS.iter().map(|topic| event_type(topic))));
}
