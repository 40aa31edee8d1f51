//! What the service says and hears beside requests: an `AsyncAPI` 3 document and a JSON Schema for each message, made of the types that write and read
//! them.

use allocation_service_layer::wire::{EVENTS, EventForm, SOURCE, event_type};
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};

use crate::consumer::CHANGE_BATCH_QUANTITY;
use crate::consumer::forms::{FORMS, Form, TYPE};

/// The dialect of the schemas.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Schemas that others refer to, by name.
type Parts = Vec<(String, RefOr<Schema>)>;

fn value(schema: &RefOr<Schema>) -> Value {
    serde_json::to_value(schema).unwrap_or_default()
}

/// A schema with those it refers to at its own foot, so that it stands alone.
fn alone(mut schema: Value, gather: fn(&mut Parts)) -> Value {
    let mut parts = Parts::new();
    gather(&mut parts);
    let parts: Map<String, Value> = parts.iter().map(|(name, part)| (name.clone(), value(part))).collect();
    if !parts.is_empty() {
        schema["$defs"] = Value::Object(parts);
    }
    point_to_defs(&mut schema);
    schema
}

fn point_to_defs(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| match value {
            Value::String(path) if name == "$ref" => *path = path.replace("#/components/schemas/", "#/$defs/"),
            value => point_to_defs(value),
        }),
        Value::Array(values) => values.iter_mut().for_each(point_to_defs),
        _ => {}
    }
}

/// The envelope around `data`. What else is in it is somebody's extension.
fn envelope(title: &str, meaning: &str, properties: &Value, required: &[&str]) -> Value {
    json!({
        "$schema": DIALECT,
        "title": title,
        "description": meaning,
        "type": "object",
        "properties": properties,
        "required": required,
    })
}

/// The type of a command.
fn command_type(form: &Form) -> String {
    format!("{}{}{}", TYPE.0, form.name, TYPE.1)
}

/// The schema of a whole event.
fn event_schema(form: &EventForm) -> Value {
    let kind = event_type(form.topic);
    let properties = json!({
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "format": "uuid", "description": "Its own; the same however often it is delivered"},
        "source": {"const": SOURCE},
        "type": {"const": kind},
        "subject": {"type": "string", "description": "The SKU"},
        "time": {"type": "string", "format": "date-time"},
        "sequence": {"type": "integer", "minimum": 1, "description": "Its number among the events of the SKU, without a gap"},
        "correlation": {"type": "string", "description": "Ties together what one request or message caused"},
        "actor": {"type": "string", "description": "Who asked"},
        "traceparent": {"type": "string", "description": "The W3C trace it belongs to"},
        "data": value(&(form.data)()),
    });
    let required =
        ["specversion", "id", "source", "type", "subject", "time", "sequence", "correlation", "actor", "data"];
    alone(envelope(&kind, form.meaning, &properties, &required), form.parts)
}

/// The schema of a whole command.
fn command_schema(form: &Form) -> Value {
    let mut data = value(&(form.body)());
    for named in form.about {
        data["properties"][named.name] = json!({"type": "string", "minLength": 1, "maxLength": 255});
        if !named.optional {
            match data.get_mut("required").and_then(Value::as_array_mut) {
                Some(required) => required.push(named.name.into()),
                None => data["required"] = json!([named.name]),
            }
        }
    }
    let kind = command_type(form);
    let text = |meaning: &str| json!({"type": "string", "minLength": 1, "description": meaning});
    let properties = json!({
        "specversion": {"const": "1.0"},
        "id": text("With `source` the message's name: what comes again under it acts once"),
        "source": text("Who sends it"),
        "type": {"const": kind},
        "time": {"type": "string", "format": "date-time"},
        "correlation": {"type": "string", "maxLength": 128, "description": "Stands in every event that it causes; the `id` unless given"},
        "traceparent": {"type": "string", "description": "The W3C trace it belongs to"},
        "data": data,
    });
    alone(envelope(&kind, form.meaning, &properties, &["specversion", "id", "source", "type", "data"]), form.parts)
}

/// The JSON Schema of each message by its type, as text.
pub fn schemas() -> Vec<(String, String)> {
    let events = EVENTS.iter().map(|form| (event_type(form.topic), event_schema(form)));
    let commands = FORMS.iter().map(|form| (command_type(form), command_schema(form)));
    events.chain(commands).map(|(kind, schema)| (kind, pretty(&schema))).collect()
}

/// The `AsyncAPI` document, as JSON.
pub fn asyncapi() -> String {
    let message = |kind: &str, meaning: &str, schema: &str| {
        json!({
            "name": kind,
            "title": kind,
            "summary": meaning,
            "contentType": "application/cloudevents+json",
            "payload": {"schemaFormat": "application/schema+json;version=draft-2020-12", "schema": {"$ref": schema}},
        })
    };
    let of_schema = |kind: &str| format!("schemas/{kind}.json");
    let mut messages = Map::new();
    let (mut told, mut heard) = (Map::new(), Map::new());
    let reference = |name: &str| json!({"$ref": format!("#/components/messages/{name}")});
    for form in EVENTS {
        let kind = event_type(form.topic);
        messages.insert(form.topic.to_owned(), message(&kind, form.meaning, &of_schema(&kind)));
        told.insert(form.topic.to_owned(), reference(form.topic));
    }
    for form in FORMS {
        let kind = command_type(form);
        messages.insert(form.name.to_owned(), message(&kind, form.meaning, &of_schema(&kind)));
        heard.insert(form.name.to_owned(), reference(form.name));
    }
    messages.insert("original_line_allocated".to_owned(), original("line_allocated", &["orderid", "sku", "batchref"]));
    messages.insert("original_change_batch_quantity".to_owned(), original(CHANGE_BATCH_QUANTITY, &["batchref"]));
    let channel = |address: &str, description: &str, messages: &Map<String, Value>| json!({"address": address, "description": description, "messages": messages});
    let only = |name: &str| Map::from_iter([(name.to_owned(), reference(name))]);
    let all = |channel: &str, of: &Map<String, Value>| -> Vec<Value> {
        of.keys().map(|name| json!({"$ref": format!("#/channels/{channel}/messages/{name}")})).collect()
    };
    let operation = |action: &str, channel: &str, of: &Map<String, Value>| json!({"action": action, "channel": {"$ref": format!("#/channels/{channel}")}, "messages": all(channel, of)});
    let (line_allocated, quantity) = (only("original_line_allocated"), only("original_change_batch_quantity"));
    pretty(&json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "allocation",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What allocation tells the rest of the company, and the commands it takes from there. Every message is a CloudEvents 1.0 \
                object, but those of the Python original. The events of one SKU come in order, each at least once.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {
            "events": channel(
                "allocation.events",
                "Redis stream REDIS_STREAM, entries with `body`; NATS subject allocation.events.<topic>; RabbitMQ exchange AMQP_EXCHANGE, routing \
                    key <topic>; Redis channel <topic>; webhooks; GET /v1/events",
                &told,
            ),
            "commands": channel(
                "allocation.commands",
                "Redis stream REDIS_COMMANDS, entries with `body`; NATS stream NATS_COMMANDS; RabbitMQ queue AMQP_COMMANDS",
                &heard,
            ),
            "line_allocated": channel("line_allocated", "Redis channel of the Python original", &line_allocated),
            "change_batch_quantity": channel(CHANGE_BATCH_QUANTITY, "Redis channel of the Python original", &quantity),
        },
        "operations": {
            "tell": operation("send", "events", &told),
            "take_command": operation("receive", "commands", &heard),
            "tell_line_allocated": operation("send", "line_allocated", &line_allocated),
            "take_change_batch_quantity": operation("receive", "change_batch_quantity", &quantity),
        },
        "components": {"messages": messages},
    }))
}

/// A message of the Python original: these texts, and `qty`.
fn original(name: &str, texts: &[&str]) -> Value {
    let mut properties: Map<String, Value> =
        texts.iter().map(|text| ((*text).to_owned(), json!({"type": "string"}))).collect();
    properties.insert("qty".to_owned(), json!({"type": "integer", "minimum": 0}));
    let mut required = texts.to_vec();
    required.push("qty");
    if name == CHANGE_BATCH_QUANTITY {
        let only = "Needed where several SKUs share the reference";
        properties.insert("sku".to_owned(), json!({"type": "string", "description": only}));
    }
    json!({
        "name": name,
        "title": name,
        "summary": "As the Python original says it",
        "contentType": "application/json",
        "payload": {"type": "object", "properties": properties, "required": required},
    })
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}
