//! Distributed traces, as a port: what is done is told as spans, and each belongs to the trace of whoever asked for it.
//!
//! Between requests, commits and deliveries a trace goes along as text (`traceparent`, as W3C has it), in the same place as events have it: so nothing between
//! them knows of spans.

use std::fmt;
use std::sync::Arc;

use time::OffsetDateTime;

/// What a span is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request to us.
    Server,
    /// A message to us.
    Consumer,
    /// Work of our own.
    Internal,
    /// A message from us.
    Producer,
    /// A request from us.
    Client,
}

/// A span that is about to begin.
#[derive(Debug, Clone, Copy)]
pub struct Beginning<'a> {
    /// What it is of.
    pub kind: Kind,
    /// Its name, one of few: nothing of what is asked for, or by whom.
    pub name: fmt::Arguments<'a>,
    /// The `traceparent` of what it is part of; none: a trace begins with it.
    pub parent: Option<&'a str>,
    /// When it began; none: now.
    pub since: Option<OffsetDateTime>,
}

/// Begins spans.
pub trait Tracer: Send + Sync + 'static {
    /// A span; none: its trace is not one of those that are kept.
    fn begin(&self, beginning: Beginning<'_>) -> Option<Box<dyn Span>>;
}

/// A span that has begun. It ends when it is dropped.
pub trait Span: Send + Sync {
    /// The `traceparent` of what is part of it.
    fn traceparent(&self) -> Arc<str>;

    /// Notes a text.
    fn text(&mut self, name: &'static str, value: &str);

    /// Notes a number.
    fn number(&mut self, name: &'static str, value: u64);

    /// What it is of has failed.
    fn fail(&mut self, why: &str);
}

/// Begins spans, if traces are kept at all.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<dyn Tracer>>);

impl Traces {
    /// Keeps them so.
    pub fn new(tracer: Arc<dyn Tracer>) -> Self {
        Self(Some(tracer))
    }

    /// Whether any are kept.
    pub fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    /// A span of what comes from outside: in the trace of who sent it, or else at the beginning of one.
    pub fn begin(&self, kind: Kind, name: fmt::Arguments<'_>, parent: Option<&str>) -> Option<Box<dyn Span>> {
        self.0.as_ref()?.begin(Beginning { kind, name, parent, since: None })
    }

    /// A span of what follows from something: none without a trace of that.
    pub fn follow(&self, kind: Kind, name: fmt::Arguments<'_>, parent: Option<&str>) -> Option<Box<dyn Span>> {
        self.0.as_ref()?.begin(Beginning { kind, name, parent: Some(parent?), since: None })
    }

    /// The same, since then.
    pub fn follow_since(
        &self,
        since: OffsetDateTime,
        kind: Kind,
        name: fmt::Arguments<'_>,
        parent: Option<&str>,
    ) -> Option<Box<dyn Span>> {
        self.0.as_ref()?.begin(Beginning { kind, name, parent: Some(parent?), since: Some(since) })
    }
}
