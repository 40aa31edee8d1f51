//! Whatever is not a success under `/v1`, as `application/problem+json` (RFC 9457).

use std::fmt;

use allocation_domain::{Conflict, Rejection};
use allocation_service_layer::group_commit::HandlerError;
use allocation_service_layer::ports::database::StoreError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use super::json::Json;
use crate::asked::fields::{FieldError, Invalid};

/// What went wrong. `type` tells the kinds apart; `detail` is for people.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The kind, as a URN.
    #[schema(example = "urn:allocation:problem:out-of-stock")]
    r#type: String,
    /// The kind, in words.
    title: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What happened this time.
    pub(crate) detail: String,
    /// Each field with what is wrong with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// What is short, of each product.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    short: Vec<Short>,
    /// Lines that are known as something else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<LineConflict>,
}

/// What a request lacks of one product.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Short {
    /// The product.
    sku: String,
    /// Units asked for.
    asked: u64,
    /// Units on hand that nobody has been promised.
    available: u64,
    /// Units that the request could have had by its terms, arrived or not.
    promisable: u64,
}

/// A line that is known as something else.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct LineConflict {
    /// The product.
    sku: String,
    /// Which of the order's lines for it.
    line: String,
    /// `other_quantity` or `cancelled`.
    reason: &'static str,
    /// The quantity that was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<u64>,
}

/// What any request with a body may be answered, for the OpenAPI document.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "tells the document, and is never made")]
pub(crate) enum BodyProblems {
    /// Not JSON
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(Problem),
    /// The body took too long to come
    #[response(status = 408, content_type = "application/problem+json")]
    TooSlow(Problem),
    /// Body over 1 MiB, or what is set
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// Not application/json
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(Problem),
    /// Try again
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

impl Problem {
    pub(crate) fn new(status: StatusCode, name: &str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("urn:allocation:problem:{name}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            short: Vec::new(),
            conflicts: Vec::new(),
        }
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "Malformed request", detail)
    }

    pub(crate) fn unknown(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", what)
    }

    /// There is too much to do at the moment.
    pub(crate) fn overloaded(why: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too busy", why)
    }

    /// A command was answered with what another would answer: a defect.
    pub(crate) fn other_reply() -> Self {
        Self::internal("the bus gave another command's reply")
    }

    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let detail = invalid.to_string();
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid request", detail);
        Self { errors: invalid.0, ..problem }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        let conflict = |name, title| Self::new(StatusCode::CONFLICT, name, title, detail.clone());
        match rejection {
            Rejection::UnknownSku(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown-sku", "Unknown SKU", detail)
            }
            Rejection::UnknownBatch { .. } | Rejection::UnknownOrder(_) | Rejection::UnknownLine { .. } => {
                Self::unknown(detail)
            }
            Rejection::BatchExists { .. } => conflict("batch-exists", "Another batch has this reference"),
            Rejection::AtLocation { .. } => conflict("at-location", "The batch is where it is"),
            Rejection::NotAllowed { .. } => conflict("not-allowed", "Not allowed in this state"),
            Rejection::NotOnHand(_) => conflict("not-on-hand", "Not on hand"),
            Rejection::TooMany { .. } => conflict("too-many", "More units than there are"),
            Rejection::TooFew { .. } => conflict("too-few", "Fewer units than are shipped or being picked"),
            Rejection::ExpiryMissing { .. } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "expiry-missing",
                "The batch must say when it expires",
                detail,
            ),
            Rejection::KeyReused(_) => {
                let title = "The key stands for another request";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", title, detail)
            }
            Rejection::TooManyHolds { .. } => conflict("too-many-holds", "Too many holds"),
            Rejection::QueueFull { .. } => conflict("queue-full", "Too much waits already"),
            Rejection::LogInconsistent { .. } => conflict("log-inconsistent", "The log contradicts itself"),
            Rejection::PreconditionFailed { .. } => {
                Self::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", "The batch has changed", detail)
            }
            Rejection::LineConflict(conflicts) => Self {
                conflicts: conflicts
                    .iter()
                    .map(|c| LineConflict {
                        sku: c.sku().to_string(),
                        line: c.line().line.to_string(),
                        reason: match c {
                            Conflict::OtherQuantity { .. } => "other_quantity",
                            Conflict::Cancelled { .. } => "cancelled",
                        },
                        accepted: match c {
                            Conflict::OtherQuantity { accepted, .. } => Some(accepted.units()),
                            Conflict::Cancelled { .. } => None,
                        },
                    })
                    .collect(),
                ..conflict("line-conflict", "The line is known as something else")
            },
            Rejection::Short(shortages) => Self {
                short: shortages
                    .into_iter()
                    .map(|s| Short {
                        sku: s.sku.to_string(),
                        asked: s.asked,
                        available: s.available,
                        promisable: s.promisable,
                    })
                    .collect(),
                ..conflict("out-of-stock", "Out of stock")
            },
        }
    }
}

impl From<HandlerError> for Problem {
    fn from(error: HandlerError) -> Self {
        match error {
            HandlerError::Overloaded | HandlerError::Overtaking => Self::overloaded(error.to_string()),
            HandlerError::Stopping => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "Stopping", error.to_string())
            }
            HandlerError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        // What exactly broke is for the log, not for the caller.
        match error {
            StoreError::Conflict(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "contention",
                "Too much contention",
                "other changes to the same products came first, again and again",
            ),
            StoreError::Unavailable(why) => {
                tracing::warn!(%why, "store unavailable");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "store-unavailable",
                    "Store unavailable",
                    "the store can't be reached, and whether this was done is not known; asking again is safe, and tells",
                )
            }
            StoreError::Failed(why) => {
                tracing::error!(%why, "store failed");
                Self::internal("the store failed")
            }
        }
    }
}

impl fmt::Display for Problem {
    /// As JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).unwrap_or_default())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        problem.into_response()
    }
}

pub(crate) async fn not_found() -> Problem {
    Problem::unknown("there is nothing at this path")
}

pub(crate) async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Method not allowed",
        "this path does not take this method; `Allow` lists those it takes",
    )
}
