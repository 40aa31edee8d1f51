//! The gate that requests come through: what one may take up, and what all of them may together. The cheapest check comes first.
//!
//! By the time that a request is here, its connection has a place and its head has come ([`super::server`]). Then: the size of its URL; a place among those in flight; who it
//! is, how often they ask, and whether they may ([`super::access`]); the size of its body by what it says of itself; the time and room that the body takes; and what its words mean.

use std::sync::Arc;
use std::time::Duration;

use allocation_service_layer::metrics::{Gauge, Limit, Metrics};
use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use super::told::is_watched;
use crate::asked::fields::LONGEST_WAIT;

/// What of each body is not counted among all that are kept: nearly every body is shorter.
const SHORT: usize = 8 * 1024;

/// What requests may take up.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// The most bytes of a path with its query string.
    pub url_bytes: usize,
    /// The most bytes of headers.
    pub head_bytes: usize,
    /// How long a body may take.
    pub body: Duration,
    /// The most bytes of a body.
    pub body_bytes: usize,
    /// The most bytes of all bodies that are being read, beyond the first 8 KiB of each.
    pub bodies_bytes: usize,
    /// The most bodies that are waited for.
    pub bodies: usize,
    /// The most requests that are being handled.
    pub in_flight: usize,
    /// How long an answer may take.
    pub answer: Duration,
    /// The most readers that wait for events.
    pub readers: usize,
    /// How often a stream of events that has nothing to say shows that it is alive: well before its connection would be of no use.
    pub heartbeat: Duration,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            url_bytes: 8 * 1024,
            head_bytes: 16 * 1024,
            body: Duration::from_secs(20),
            body_bytes: 1024 * 1024,
            bodies_bytes: 64 * 1024 * 1024,
            bodies: 10_000,
            in_flight: 10_000,
            answer: Duration::from_secs(30),
            readers: 1_000,
            heartbeat: Duration::from_secs(15),
        }
    }
}

/// The gate.
pub(super) struct Gate {
    limits: RequestLimits,
    metrics: Metrics,
    readers: Arc<Semaphore>,
}

/// What is counted in a gauge for as long as this is kept.
struct Counted<'a> {
    gauge: &'a Gauge,
    by: i64,
}

impl<'a> Counted<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        Self { gauge, by: 0 }
    }

    /// Counts so many in all; `false`: it is more than `most` with what others count.
    fn reach(&mut self, by: usize, most: usize) -> bool {
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        let before = self.gauge.inc_by(by - self.by);
        let all = before + by - self.by;
        self.by = by;
        usize::try_from(all).is_ok_and(|all| all <= most)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.gauge.dec_by(self.by);
    }
}

/// A request that is waiting, and so is not counted among those in flight.
pub(super) struct Aside<'a>(&'a Gauge);

impl<'a> Aside<'a> {
    fn step(in_flight: &'a Gauge) -> Self {
        in_flight.dec();
        Self(in_flight)
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        self.0.inc();
    }
}

impl Gate {
    pub(super) fn new(limits: RequestLimits, metrics: Metrics) -> Self {
        let readers = Arc::new(Semaphore::new(limits.readers));
        Self { limits, metrics, readers }
    }

    /// Counts that a limit was come to, and says so.
    fn refuse(&self, limit: Limit, problem: Problem) -> Problem {
        self.metrics.bit(limit);
        problem
    }

    /// Lets a request through to its route, if there is room for it, and sees to it that there is an answer in time.
    pub(super) async fn pass(&self, route: &str, request: Request, next: Next) -> Response {
        if let Err(problem) = self.check_head(&request) {
            return problem.into_response();
        }
        let mut place = Counted::new(&self.metrics.in_flight);
        // Who is to know how we are is told so most of all when there is much to do.
        let counts = !is_watched(route);
        if counts && !place.reach(1, self.limits.in_flight) {
            let busy = Problem::overloaded("too many requests are being handled");
            return self.refuse(Limit::in_flight, busy).into_response();
        }
        let most = self.limits.answer + if route == "/v1/events" { LONGEST_WAIT } else { Duration::ZERO };
        let answer = tokio::time::timeout(most, next.run(request)).await;
        answer.unwrap_or_else(|_| self.refuse(Limit::answer_seconds, no_answer(most)).into_response())
    }

    fn check_head(&self, request: &Request) -> Result<(), Problem> {
        let most = self.limits.url_bytes;
        if request.uri().path_and_query().is_some_and(|path| path.as_str().len() > most) {
            let detail = format!("a path with its query string may have at most {most} bytes");
            let problem = Problem::new(StatusCode::URI_TOO_LONG, "url-too-long", "URL too long", detail);
            return Err(self.refuse(Limit::url_bytes, problem));
        }
        // hyper refuses only what does not fit into its memory.
        let most = self.limits.head_bytes;
        let size: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if size > most {
            let detail = format!("headers may have at most {most} bytes");
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            let problem = Problem::new(status, "headers-too-large", "Headers too large", detail);
            return Err(self.refuse(Limit::head_bytes, problem));
        }
        Ok(())
    }

    /// Reads a body to its end.
    pub(super) async fn body(&self, body: Body) -> Result<Bytes, Problem> {
        if body.size_hint().lower() > self.limits.body_bytes as u64 {
            return Err(self.body_too_large());
        }
        let mut reading =
            Reading { gate: self, kept: Counted::new(&self.metrics.body_bytes), first: Bytes::new(), all: Vec::new() };
        let mut chunks = body.into_data_stream();
        // Nearly always all of it has come with the head.
        if let Some(all) = reading.read_all(&mut chunks).now_or_never() {
            return all;
        }
        let busy = || Problem::overloaded("too many requests are being sent");
        let mut waiting = Counted::new(&self.metrics.slow_bodies);
        if !waiting.reach(1, self.limits.bodies) {
            return Err(self.refuse(Limit::in_flight, busy()));
        }
        // Whoever is slow keeps nobody else from being handled.
        let aside = Aside::step(&self.metrics.in_flight);
        let all = tokio::time::timeout(self.limits.body, reading.read_all(&mut chunks)).await;
        drop(aside);
        let all = all.map_err(|_| self.refuse(Limit::body_seconds, body_too_slow(self.limits.body)))??;
        if usize::try_from(self.metrics.in_flight.get()).is_ok_and(|all| all > self.limits.in_flight) {
            return Err(self.refuse(Limit::in_flight, busy()));
        }
        Ok(all)
    }

    fn body_too_large(&self) -> Problem {
        let detail = format!("a body may have at most {} bytes", self.limits.body_bytes);
        let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Body too large", detail);
        self.refuse(Limit::body_bytes, problem)
    }

    /// Makes room for one more who waits for events.
    pub(super) fn reader(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let room = self.readers.clone().try_acquire_owned();
        room.map_err(|_| self.refuse(Limit::readers, Problem::overloaded("too many readers wait for events")))
    }

    /// For whoever waits for events: that is no work.
    pub(super) fn step_aside(&self) -> Aside<'_> {
        Aside::step(&self.metrics.in_flight)
    }
}

/// A body that is being read.
struct Reading<'a> {
    gate: &'a Gate,
    kept: Counted<'a>,
    /// All of it, as long as it has come in one piece.
    first: Bytes,
    /// All of it, once there is a second piece.
    all: Vec<u8>,
}

impl Reading<'_> {
    /// Goes on from where it was. It may be dropped at any time, and asked again.
    async fn read_all(&mut self, chunks: &mut BodyDataStream) -> Result<Bytes, Problem> {
        let limits = &self.gate.limits;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| Problem::malformed(format!("the body can't be read: {error}")))?;
            let size = self.first.len().max(self.all.len()) + chunk.len();
            if size > limits.body_bytes {
                return Err(self.gate.body_too_large());
            }
            if size > SHORT && !self.kept.reach(size - SHORT, limits.bodies_bytes) {
                let busy = Problem::overloaded("too much is being sent");
                return Err(self.gate.refuse(Limit::bodies_bytes, busy));
            }
            if self.first.is_empty() {
                self.first = chunk;
            } else {
                if self.all.is_empty() {
                    self.all.extend_from_slice(&self.first);
                }
                self.all.extend_from_slice(&chunk);
            }
        }
        let first = std::mem::take(&mut self.first);
        Ok(if self.all.is_empty() { first } else { std::mem::take(&mut self.all).into() })
    }
}

fn body_too_slow(most: Duration) -> Problem {
    let detail = format!("the body did not come within {} seconds", most.as_secs());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "Body too slow", detail)
}

fn no_answer(most: Duration) -> Problem {
    let detail = format!(
        "there was no answer within {} seconds; what was asked for may yet happen, and asking again is safe",
        most.as_secs()
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-answer", "No answer in time", detail)
}
