//! What messages say: each command of the outside world as a `CloudEvents` 1.0 object, its `data` in the words of the web API.

use std::borrow::Cow;
use std::sync::Arc;

use allocation_domain::Command;
use allocation_service_layer::Message;
use allocation_service_layer::ports::database::{KeyOf, RequestKey};
use allocation_service_layer::wire::Cause;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::asked::fields::{Faults, Names};
use crate::asked::{self, Nothing, Read, batches, floor, orders, products};

/// A command as a message.
pub(crate) struct Form {
    /// The command's name: the message's `type` is `allocation.command.<name>.v1`.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) meaning: &'static str,
    /// The fields that say what it is about.
    pub(crate) about: &'static [Named],
    read: ReadData,
    /// The schema of what else is said.
    pub(crate) body: fn() -> RefOr<Schema>,
    /// The schemas that this refers to, by name.
    pub(crate) parts: fn(&mut Vec<(String, RefOr<Schema>)>),
}

/// Makes a command of `data`, or says what is wrong with it.
type ReadData = fn(&[Named], Map<String, Value>) -> Result<Command, String>;

/// A field that says what a command is about, and whether it may be left out.
#[derive(Clone, Copy)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) optional: bool,
}

const fn must(name: &'static str) -> Named {
    Named { name, optional: false }
}

const fn may(name: &'static str) -> Named {
    Named { name, optional: true }
}

const SKU: &[Named] = &[must("sku")];
const BATCH: &[Named] = &[must("sku"), must("ref")];
const ORDER: &[Named] = &[must("order_id")];
const LINE: &[Named] = &[must("order_id"), must("sku"), may("line")];
const ORDER_OR_LINE: &[Named] = &[must("order_id"), may("sku"), may("line")];

macro_rules! forms {
    ($($name:literal $about:ident $body:ty => $read:path: $meaning:literal),* $(,)?) => {
        /// Every command that the outside world may send.
        pub(crate) const FORMS: &[Form] = &[$(Form {
            name: $name,
            meaning: $meaning,
            about: $about,
            read: |about, data| read::<$body>($read, about, data),
            body: <$body>::schema,
            parts: <$body>::schemas,
        }),*];
    };
}

forms! {
    "set_product" SKU products::ProductSettings => products::set: "Makes a product known, or changes its settings",
    "improve" SKU Nothing => products::improve: "Moves a product's promises to earlier stock",
    "create_batch" BATCH batches::BatchDeclaration => batches::create: "Makes a new batch known",
    "declare_batch" BATCH batches::BatchDeclaration => batches::declare: "Says what a batch is, known or not",
    "change_batch_quantity" BATCH batches::BatchTotal => batches::change_quantity: "Corrects a batch's quantity",
    "change_batch_eta" BATCH batches::BatchDate => batches::change_eta: "Corrects a batch's date, or says that it has arrived",
    "receive_batch" BATCH batches::Receipt => batches::receive: "Says that an expected batch has come",
    "cancel_batch" BATCH Nothing => batches::cancel: "Says that an expected batch will never come",
    "adjust_batch" BATCH batches::AdjustmentRequest => batches::adjust: "Corrects what a batch in the warehouse holds",
    "quarantine_batch" BATCH batches::SomeUnits => batches::quarantine: "Sets units of a batch aside",
    "release_batch" BATCH batches::SomeUnits => batches::release: "Gives units free again that were set aside",
    "transfer" NONE batches::TransferRequest => batches::transfer: "Sends free units to another location",
    "allocate" ORDER orders::OrderRequest => orders::promise: "Promises an order's lines",
    "confirm_hold" ORDER Nothing => orders::confirm: "Makes the promises of an order's holds last",
    "extend_hold" ORDER orders::Extension => orders::extend: "Lets an order's holds last longer",
    "change_line" LINE orders::LinePatch => orders::change_line: "Changes what a line asks for",
    "deallocate" ORDER_OR_LINE Nothing => orders::cancel: "Cancels an order, or its lines for one SKU, or one of them",
    "pick" ORDER floor::PickRequest => floor::pick: "Releases an order's units to picking",
    "unpick" ORDER floor::PickRequest => floor::unpick: "Takes them back from picking",
    "ship" ORDER floor::Shipment => floor::ship: "Says that units of an order have left",
    "return" ORDER floor::ReturnRequest => floor::take_back: "Says that shipped units have come back",
}

const NONE: &[Named] = &[];

/// What stands before and after a command's name in its type.
pub(crate) const TYPE: (&str, &str) = ("allocation.command.", ".v1");

fn read<B: DeserializeOwned>(read: Read<B>, about: &[Named], mut data: Map<String, Value>) -> Result<Command, String> {
    let mut names = Names::default();
    for Named { name, .. } in about {
        if let Some(value) = data.remove(*name) {
            let text = if let Value::String(text) = value { Some(text) } else { None };
            names.0.push(((*name).to_owned(), text));
        }
    }
    let body = serde_json::from_value(Value::Object(data)).map_err(|error| {
        let mut faults = Faults::default();
        faults.add("data", error.to_string());
        faults.or(None::<()>).expect_err("there is a fault").to_string()
    })?;
    asked::command(read, &names, body).map_err(|invalid| invalid.to_string())
}

/// The envelope, as far as it matters here.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(default)]
    data: Map<String, Value>,
    #[serde(default, borrow)]
    correlation: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    traceparent: Option<Cow<'a, str>>,
}

/// The longest name of a message, source and id together: what a key of the store holds well.
const LONGEST_NAME: usize = 1_024;

/// The message that a body says, or why it says none.
pub(super) fn message(body: &[u8], actor: &Arc<str>) -> Result<Message, String> {
    let envelope: Envelope<'_> =
        serde_json::from_slice(body).map_err(|error| format!("it is no CloudEvents object: {error}"))?;
    if envelope.specversion != "1.0" {
        return Err(format!("specversion {:?} is not known, only 1.0", envelope.specversion));
    }
    for (name, value) in [("id", &envelope.id), ("source", &envelope.source)] {
        if value.is_empty() || value.contains(char::is_control) {
            return Err(format!("{name} must be a text without control characters"));
        }
    }
    if envelope.id.len() + envelope.source.len() > LONGEST_NAME {
        return Err(format!("id and source must not be longer than {LONGEST_NAME} bytes together"));
    }
    let name = envelope.r#type.strip_prefix(TYPE.0).and_then(|rest| rest.strip_suffix(TYPE.1));
    let form = name.and_then(|name| FORMS.iter().find(|form| form.name == name));
    let form = form.ok_or_else(|| format!("type {:?} is not known", envelope.r#type))?;
    let command = (form.read)(form.about, envelope.data)?;
    let key = RequestKey {
        key: format!("{}\n{}", envelope.source, envelope.id).into(),
        of: KeyOf::Message,
        content: Sha256::digest(body).into(),
    };
    let correlation = envelope.correlation.as_deref().filter(|text| (1..=128).contains(&text.len()));
    let cause = Cause {
        correlation: correlation.unwrap_or(&envelope.id).into(),
        actor: actor.clone(),
        traceparent: envelope.traceparent.as_deref().and_then(crate::traceparent),
    };
    Ok(Message::new(command, cause).with_key(key))
}

#[cfg(test)]
mod tests {
    use allocation_service_layer::message_bus::name;
    use serde_json::json;

    use super::*;

    fn told(kind: &str, data: &Value) -> Result<Message, String> {
        let body = json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": kind, "data": data});
        message(&serde_json::to_vec(&body).unwrap(), &"test".into())
    }

    #[test]
    fn every_form_makes_the_command_of_its_name() {
        let said = json!({
            "set_product": {"sku": "LAMP", "auto_improve": true},
            "improve": {"sku": "LAMP"},
            "create_batch": {"sku": "LAMP", "ref": "b", "qty": 1, "eta": null},
            "declare_batch": {"sku": "LAMP", "ref": "b", "qty": 1, "eta": "2011-01-02"},
            "change_batch_quantity": {"sku": "LAMP", "ref": "b", "qty": 0},
            "change_batch_eta": {"sku": "LAMP", "ref": "b", "eta": null},
            "receive_batch": {"sku": "LAMP", "ref": "b", "qty": 1, "rest": "cancel"},
            "cancel_batch": {"sku": "LAMP", "ref": "b"},
            "adjust_batch": {"sku": "LAMP", "ref": "b", "kind": "damaged", "qty": 1, "reason": "wet"},
            "quarantine_batch": {"sku": "LAMP", "ref": "b"},
            "release_batch": {"sku": "LAMP", "ref": "b", "qty": 2},
            "transfer": {"sku": "LAMP", "from": "b", "qty": 1, "to": "x", "ref": "t", "eta": "2011-01-02"},
            "allocate": {"order_id": "o", "lines": [{"sku": "LAMP", "qty": 1}], "when_short": "partial"},
            "confirm_hold": {"order_id": "o"},
            "extend_hold": {"order_id": "o", "hold_seconds": 5},
            "change_line": {"order_id": "o", "sku": "LAMP", "line": "2", "qty": 1},
            "deallocate": {"order_id": "o", "sku": "LAMP"},
            "pick": {"order_id": "o"},
            "unpick": {"order_id": "o", "lines": [{"sku": "LAMP"}]},
            "ship": {"order_id": "o"},
            "return": {"order_id": "o", "lines": [{"sku": "LAMP", "qty": 1}]},
        });
        assert!(
            said.as_object()
                .unwrap()
                .keys()
                .eq(FORMS.iter().map(|form| form.name).collect::<std::collections::BTreeSet<_>>())
        );
        for form in FORMS {
            let message = told(&format!("allocation.command.{}.v1", form.name), &said[form.name]).unwrap();
            assert_eq!(name(&message.command), form.name);
            assert_eq!(&*message.key.unwrap().key, "/shop\n1");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_field() {
        for (kind, data, why) in [
            ("pick", json!({}), "type \"pick\" is not known"),
            ("allocation.command.dance.v1", json!({}), "is not known"),
            ("allocation.command.pick.v1", json!({}), "order_id: is missing"),
            ("allocation.command.pick.v1", json!({"order_id": 7}), "order_id: must be a text"),
            ("allocation.command.pick.v1", json!({"order_id": "o", "x": 1}), "x: is not a known field"),
            (
                "allocation.command.improve.v1",
                json!({"sku": "", "y": 1}),
                "y: is not a known field; sku: must not be empty",
            ),
            (
                "allocation.command.deallocate.v1",
                json!({"order_id": "o", "line": "1"}),
                "line: has no meaning without sku",
            ),
            (
                "allocation.command.allocate.v1",
                json!({"order_id": "o", "lines": [{"sku": "A", "qty": 0}]}),
                "lines[0].qty: ",
            ),
            ("allocation.command.allocate.v1", json!({"order_id": "o", "lines": 1}), "data: "),
        ] {
            let told = told(kind, &data).unwrap_err();
            assert!(told.contains(why), "{kind} {data}: {told}");
        }
    }

    #[test]
    fn what_is_no_envelope_is_told() {
        let whole = json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "allocation.command.pick.v1", "data": {"order_id": "o"}});
        let with = |name: &str, value: Value| {
            let mut body = whole.clone();
            body[name] = value;
            message(&serde_json::to_vec(&body).unwrap(), &"test".into()).map(drop).unwrap_err()
        };
        assert!(with("specversion", json!("0.3")).contains("specversion"));
        assert!(with("id", json!("")).contains("id must be"));
        assert!(with("id", json!(1)).contains("no CloudEvents object"));
        assert!(with("source", json!("a\nb")).contains("source must be"));
        assert!(with("id", json!("x".repeat(1_100))).contains("longer than"));
        assert!(with("data", json!("text")).contains("no CloudEvents object"));
        assert!(message(b"\xff", &"test".into()).is_err());
    }
}
