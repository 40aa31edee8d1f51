//! What is true of every route, said of each in the document.

use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::{AdditionalProperties, AllOf, ArrayItems, Components, Object, Schema, Type};
use utoipa::openapi::{Content, OpenApi, PathItem, Ref, RefOr, Response, ResponseBuilder};

use crate::asked::schemas;

/// Routes on which bodies may have fields that nobody knows: the original never minded them.
const LENIENT: &str = "original";

/// Operations of a path.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
    [get, put, post, delete, options, head, patch, trace].into_iter().flatten()
}

/// An answer that tells of a problem.
pub(super) fn problem(description: impl Into<String>) -> RefOr<Response> {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(description).content("application/problem+json", content).build().into()
}

/// Adds what any request may be answered, and that bodies have no fields but those that are named.
pub(super) fn complete(document: &mut OpenApi) {
    let mut bodies: Vec<String> = Vec::new();
    let components = document.components.get_or_insert_default();
    // Those that only parameters have are not found by whoever gathers the others.
    components.schemas.extend(schemas::all());
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        document_answers(operation);
        if operation.tags.iter().flatten().all(|tag| tag != LENIENT) {
            let Some(RefOr::T(body)) = &mut operation.request_body else { continue };
            for content in body.content.values_mut() {
                let RefOr::T(Content { schema: Some(schema), .. }) = content else { continue };
                not_null(schema);
                bodies.extend(name(schema));
            }
        }
    }
    while let Some(body) = bodies.pop() {
        if let Some(object) = closed(components, &body) {
            bodies.extend(parts(&object));
            components.schemas.insert(body, Schema::Object(object).into());
        }
    }
}

/// What the gate answers, and who reads a path.
fn document_answers(operation: &mut Operation) {
    let mut has_path = false;
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        has_path |= matches!(parameter.parameter_in, ParameterIn::Path);
        parameter.schema.iter_mut().for_each(not_null);
    }
    let answers = &mut operation.responses.responses;
    let mut may_be = |status: &str, description: &str| {
        answers.entry(status.into()).or_insert_with(|| problem(description));
    };
    if has_path {
        may_be("400", "A path that is not UTF-8");
    }
    may_be("414", "A path with its query string over 8 KiB, or what is set");
    may_be("431", "Headers over 16 KiB, or what is set");
    may_be("503", "Try again");
}

/// What may be left out is not null for that, in a header as little as in a body.
fn not_null(schema: &mut RefOr<Schema>) {
    let RefOr::T(Schema::OneOf(either)) = schema else { return };
    let is_null = |schema: &RefOr<Schema>| matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == Type::Null.into());
    either.items.retain(|schema| !is_null(schema));
    if let [only] = &either.items[..] {
        *schema = only.clone();
    }
}

/// What stands here, and not elsewhere.
fn inline<T>(part: &RefOr<T>) -> Option<&T> {
    match part {
        RefOr::T(part) => Some(part),
        RefOr::Ref(_) => None,
    }
}

/// The schema that is referred to.
fn name(schema: &RefOr<Schema>) -> Option<String> {
    let RefOr::Ref(reference) = schema else { return None };
    reference.ref_location.rsplit_once('/').map(|(_, name)| name.to_owned())
}

/// The schemas of the fields of an object, and of what is in lists and maps of it.
fn parts(object: &Object) -> Vec<String> {
    let mut parts = Vec::new();
    let mut within: Vec<&RefOr<Schema>> = object.properties.values().collect();
    while let Some(schema) = within.pop() {
        parts.extend(name(schema));
        match schema {
            RefOr::T(Schema::Array(array)) => {
                if let ArrayItems::RefOrSchema(items) = &array.items {
                    within.push(items);
                }
            }
            RefOr::T(Schema::Object(object)) => {
                if let Some(AdditionalProperties::RefOr(values)) = object.additional_properties.as_deref() {
                    within.push(values);
                }
            }
            RefOr::T(Schema::OneOf(one_of)) => within.extend(&one_of.items),
            _ => {}
        }
    }
    parts
}

/// The object of this name with all its fields in one place, and no others. None: it is no object, or is closed already.
fn closed(components: &Components, name: &str) -> Option<Object> {
    let mut object = match components.schemas.get(name)? {
        RefOr::T(Schema::Object(object)) => object.clone(),
        RefOr::T(Schema::AllOf(whole)) => merged(components, whole)?,
        _ => return None,
    };
    if object.properties.is_empty() || object.additional_properties.is_some() {
        return None;
    }
    object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    Some(object)
}

/// One object of several: no schema of a part could say that there are no fields but those of the others.
fn merged(components: &Components, whole: &AllOf) -> Option<Object> {
    let mut all = Object::new();
    all.description.clone_from(&whole.description);
    for item in &whole.items {
        let part = match item {
            RefOr::T(schema) => schema,
            RefOr::Ref(_) => inline(components.schemas.get(&name(item)?)?)?,
        };
        let Schema::Object(part) = part else { return None };
        all.properties.extend(part.properties.clone());
        all.required.extend(part.required.clone());
        all.schema_type = part.schema_type.clone();
    }
    Some(all)
}
