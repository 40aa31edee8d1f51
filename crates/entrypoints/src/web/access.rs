//! Who may use which route. A route is registered with what it needs, or not at all; the same says so in the OpenAPI document.

use std::convert::Infallible;
use std::time::Duration;

use allocation_service_layer::access::{Access, Caller, Denied, KEY_PREFIX, Scope};
use allocation_service_layer::metrics::{Limit, Metrics};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, SecurityRequirement};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt};

use super::WebState;
use super::document::{operations, problem};
use super::problem::Problem;

/// What the document calls the ways in which somebody may be known.
const KEY: &str = "api_key";
const TOKEN: &str = "token";

/// Routes, each with what it needs.
#[derive(Default)]
pub(super) struct Routes(Vec<(Needs, UtoipaMethodRouter<WebState>)>);

#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    Scope(Scope),
}

impl Routes {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Routes for those whose credential has this scope.
    pub(super) fn needing(mut self, scope: Scope, routes: UtoipaMethodRouter<WebState>) -> Self {
        self.0.push((Needs::Scope(scope), routes));
        self
    }

    /// Routes for everybody.
    pub(super) fn open(mut self, routes: UtoipaMethodRouter<WebState>) -> Self {
        self.0.push((Needs::Nothing, routes));
        self
    }

    pub(super) fn merge(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// All of them, guarded and documented.
    pub(super) fn mount(self, mut document: OpenApi, access: &Access, metrics: &Metrics) -> OpenApiRouter<WebState> {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(KEY, key_scheme());
        components.add_security_scheme(TOKEN, token_scheme());
        let router = OpenApiRouter::with_openapi(document);
        self.0.into_iter().fold(router, |router, (needs, (schemas, mut paths, served))| {
            for operation in paths.paths.values_mut().flat_map(operations) {
                document_needs(operation, needs);
            }
            let documented: UtoipaMethodRouter<WebState> = (schemas, paths, served);
            router.routes(match needs {
                // Nobody is asked for anything, so nothing need stand in the way.
                _ if matches!(access, Access::Open) => documented,
                Needs::Nothing => documented,
                Needs::Scope(scope) => documented.map::<Infallible>(|served| {
                    let guarded = (access.clone(), metrics.clone(), scope);
                    served.route_layer(middleware::from_fn_with_state(guarded, guard))
                }),
            })
        })
    }
}

/// Lets a request through, before its body is read, if its credential has the scope; its changes are the caller's from here on.
async fn guard(
    State((access, metrics, scope)): State<(Access, Metrics, Scope)>,
    mut request: Request,
    next: Next,
) -> Response {
    match access.admit(bearer(request.headers()), scope).await {
        Ok(Ok(caller)) => {
            request.extensions_mut().insert(caller.clone());
            let mut response = next.run(request).await;
            // For the log.
            response.extensions_mut().insert(caller);
            response
        }
        Ok(Err(denied)) => {
            if let Denied::TooOften(_) = denied {
                metrics.bit(Limit::requests_per_key);
            }
            refusal(denied)
        }
        Err(error) => Problem::from(error).into_response(),
    }
}

/// Who asks: whom the guard let in, or anybody where none stands.
pub(super) struct Asks(pub(super) Caller);

impl<S: Sync> FromRequestParts<S> for Asks {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get().cloned().unwrap_or_else(Caller::anybody)))
    }
}

/// The credential, as RFC 6750 has it. One that is not as it should be is an empty text, which is none of ours.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let first = given.next()?;
    let (scheme, credential) = first.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
    let good = scheme.eq_ignore_ascii_case("bearer") && given.next().is_none();
    Some(if good { credential.trim() } else { "" })
}

fn refusal(denied: Denied) -> Response {
    let (status, name, title, challenge) = match denied {
        Denied::Missing => (StatusCode::UNAUTHORIZED, "credential-missing", "A credential is missing", String::new()),
        Denied::Malformed | Denied::Unknown | Denied::Expired | Denied::Revoked | Denied::Token(_) => {
            let challenge = format!(r#", error="invalid_token", error_description="{denied}""#);
            (StatusCode::UNAUTHORIZED, "credential-invalid", "The credential is not valid", challenge)
        }
        Denied::TooOften(pause) => return too_often(denied, pause),
        Denied::IssuerAway => {
            let title = "The issuer of tokens is away";
            let problem =
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "issuer-unavailable", title, denied.to_string());
            return problem.into_response();
        }
        Denied::Scope(scope) => {
            let challenge = format!(r#", error="insufficient_scope", scope="{scope}""#);
            (StatusCode::FORBIDDEN, "scope-missing", "The credential does not allow this", challenge)
        }
    };
    let mut response = Problem::new(status, name, title, denied.to_string()).into_response();
    let challenge = HeaderValue::try_from(format!(r#"Bearer realm="allocation"{challenge}"#));
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.expect("plain ASCII"));
    response
}

/// Says when to come back, in whole seconds as the header has it.
fn too_often(denied: Denied, pause: Duration) -> Response {
    let title = "Too many requests with this credential";
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-often", title, denied.to_string());
    let seconds = pause.as_millis().div_ceil(1_000).max(1).to_string();
    let mut response = problem.into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::try_from(seconds).expect("digits"));
    response
}

fn document_needs(operation: &mut Operation, needs: Needs) {
    let Needs::Scope(scope) = needs else {
        // Said in so many words: nothing is needed.
        operation.security = Some(Vec::new());
        return;
    };
    // Either will do.
    operation.security = Some([KEY, TOKEN].map(|scheme| SecurityRequirement::new(scheme, [scope.name()])).into());
    let responses = &mut operation.responses.responses;
    responses.insert("401".into(), problem("No credential, or one that is not valid"));
    responses.insert("403".into(), problem(format!("The credential has not the scope `{scope}`")));
    responses
        .insert("429".into(), problem("Too many requests with this credential; `Retry-After` says when to come back"));
}

fn key_scheme() -> SecurityScheme {
    bearer_scheme(
        format!("{KEY_PREFIX}…"),
        "An API key, made by `allocation keys create`. Asked for unless the service is open to everybody (`ACCESS`). What a route needs is a scope of the \
         key's; none includes another.",
    )
}

fn token_scheme() -> SecurityScheme {
    bearer_scheme(
        "JWT".to_owned(),
        "A token of the issuer that the service trusts, if it is told of one (`OIDC_ISSUER`). What a route needs is one of the names in its claim `scope` \
         or `scp`; none includes another.",
    )
}

fn bearer_scheme(format: String, description: &str) -> SecurityScheme {
    let http = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format(format);
    SecurityScheme::Http(http.description(Some(description)).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(values: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn a_credential_is_given_once_and_as_a_bearers() {
        assert_eq!(given(&[]), None);
        assert_eq!(given(&["Bearer abc"]).unwrap(), "abc");
        assert_eq!(given(&["bearer  abc "]).unwrap(), "abc");
        for bad in [&["abc"][..], &["Basic abc"], &["Bearer"], &["Bearerabc"], &[""], &["Bearer abc", "Bearer abc"]] {
            assert_eq!(given(bad).unwrap(), "", "{bad:?}");
        }
    }
}
