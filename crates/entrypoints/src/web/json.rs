//! Replies in JSON.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Bytes that nearly every reply has room in.
const USUAL: usize = 512;

/// A reply in JSON: as `axum::Json`, which begins with room for 128 bytes and looks after it at each piece it writes. That took a hundredth of all instructions of an order.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut body = Vec::with_capacity(USUAL);
        match serde_json::to_writer(&mut body, &self.0) {
            Ok(()) => in_json(body),
            Err(error) => {
                tracing::error!(%error, "a reply that is no JSON");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// A reply that `write` writes itself, with [`members`].
pub(super) fn written(write: impl FnOnce(&mut Vec<u8>)) -> Response {
    let mut body = Vec::with_capacity(USUAL);
    write(&mut body);
    in_json(body)
}

fn in_json(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// Appends an object with these fields of a value, as the derived `Serialize` has it, their names as they are: to look for what needs escaping in the same two dozen
/// names again and again takes a twentieth of all instructions of an order.
macro_rules! members {
    ($json:ident, $of:expr, $first:ident $(, $next:ident)* $(,)?) => {{
        $json.extend_from_slice(concat!("{\"", stringify!($first), "\":").as_bytes());
        allocation_service_layer::wire::put($json, &$of.$first);
        $(
            $json.extend_from_slice(concat!(",\"", stringify!($next), "\":").as_bytes());
            allocation_service_layer::wire::put($json, &$of.$next);
        )*
        $json.push(b'}');
    }};
}
pub(super) use members;
