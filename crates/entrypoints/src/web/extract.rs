//! What requests bring, out of axum's hands: bodies, paths and query strings.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

use super::WebState;
use super::problem::Problem;
use crate::asked::fields::{Faults, Names, Parse, Scalar};

/// A body of JSON, as a structure of [`Field`]s.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<WebState> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, Problem> {
        must_be_json(&request)?;
        Self::read(&state.gate.body(request.into_body()).await?)
    }
}

/// A body of JSON that may be left out.
pub(crate) struct OptionalBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<WebState> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, Problem> {
        let bytes = body_bytes(request, state).await?;
        if bytes.is_empty() { Ok(Self(T::default())) } else { Body::read(&bytes).map(|Body(body)| Self(body)) }
    }
}

/// The bytes of a body of JSON; none when there is no body.
pub(super) async fn body_bytes(request: Request, state: &WebState) -> Result<Bytes, Problem> {
    let json = must_be_json(&request);
    let bytes = state.gate.body(request.into_body()).await?;
    if !bytes.is_empty() {
        json?;
    }
    Ok(bytes)
}

fn must_be_json(request: &Request) -> Result<(), Problem> {
    if is_json(request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok())) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        "Unsupported media type",
        "the body must be application/json, and say so in Content-Type",
    ))
}

impl<T: DeserializeOwned> Body<T> {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Problem> {
        serde_json::from_slice(bytes).map(Self).map_err(|error| {
            if error.is_data() {
                let mut faults = Faults::default();
                faults.add("body", error.to_string());
                faults.or(None::<()>).expect_err("there is a fault").into()
            } else {
                Problem::malformed(format!("the body is not JSON: {error}"))
            }
        })
    }
}

fn is_json(content_type: Option<&str>) -> bool {
    let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
}

/// The parameters of the path. One that is not UTF-8 once decoded is refused as malformed.
impl<S: Send + Sync> FromRequestParts<S> for Names {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::malformed(error.to_string()))?;
        Ok(Self(params.iter().map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).collect()))
    }
}

/// The parameters of the query string; each must be asked for, as unknown ones are faults.
pub(crate) struct QueryFields(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for QueryFields {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

impl QueryFields {
    /// The value of a parameter; an empty one counts as not given.
    pub(crate) fn take<T: Parse>(&mut self, faults: &mut Faults, name: &str) -> Option<T> {
        let text = self.take_text(faults, name)?;
        faults.optional(name, Scalar::Text(&text).into())
    }

    /// The same as it stands.
    pub(crate) fn take_text(&mut self, faults: &mut Faults, name: &str) -> Option<String> {
        let mut given = self.0.extract_if(.., |(known, _)| known == name);
        let first = given.next();
        if given.count() > 0 {
            faults.add(name, "is given more than once");
        }
        first.map(|(_, text)| text).filter(|text| !text.is_empty())
    }

    /// The values of a parameter that may be given several times; empty ones count as not given.
    pub(crate) fn take_all<T: Parse>(&mut self, faults: &mut Faults, name: &str) -> Vec<T> {
        let given = self.0.extract_if(.., |(known, _)| known == name).filter(|(_, text)| !text.is_empty());
        given.filter_map(|(_, text)| faults.optional(name, Scalar::Text(&text).into())).collect()
    }

    /// Whatever was not taken is a fault.
    pub(crate) fn finish(self, faults: &mut Faults) {
        for (name, _) in self.0 {
            faults.add(name, "is not a known parameter");
        }
    }
}

#[cfg(test)]
mod tests {
    use allocation_domain::Sku;

    use super::*;

    #[test]
    fn empty_parameters_count_as_not_given() {
        let given = |query: &str| QueryFields(form_urlencoded::parse(query.as_bytes()).into_owned().collect());
        let mut faults = Faults::default();
        let mut query = given("after=&sku=&sku=LAMP&sku=");
        assert!(query.take::<u64>(&mut faults, "after").is_none());
        let skus: Vec<Sku> = query.take_all(&mut faults, "sku");
        assert_eq!(skus.iter().map(Sku::as_str).collect::<Vec<_>>(), ["LAMP"]);
        query.finish(&mut faults);
        assert!(faults.or(Some(())).is_ok());
    }
}
