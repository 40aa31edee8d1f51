//! The alerting rules speak of metrics that there are, and leave out none of those that tell of sinks and sources.

use std::collections::BTreeSet;

use allocation_service_layer::metrics::{Metrics, SinkLabels, SourceLabels};

const RULES: &str = include_str!("../../../../deploy/alerts.yml");

/// The metrics that the rules speak of.
fn spoken_of() -> BTreeSet<&'static str> {
    let expressions = RULES.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let words = expressions.flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.filter(|word| word.starts_with("allocation_")).collect()
}

/// The metrics that the program has, as samples name them. A family tells of itself once it has a sample.
fn told() -> BTreeSet<String> {
    let metrics = Metrics::new();
    let (sink, source) = (SinkLabels { sink: "broker" }, SourceLabels { source: "broker" });
    for counter in [&metrics.delivered, &metrics.delivery_failures, &metrics.unrouted] {
        counter.get_or_create(&sink).inc();
    }
    for counter in [&metrics.dead_letters, &metrics.consumed, &metrics.message_retries, &metrics.source_failures] {
        counter.get_or_create(&source).inc();
    }
    metrics.lag.get_or_create(&sink).set(1);
    metrics.lag_seconds.get_or_create(&sink).set(1.0);
    metrics.full.get_or_create(&sink).set(1);
    metrics.source_lag.get_or_create(&source).set(1);
    metrics.source_lag_seconds.get_or_create(&source).set(1.0);
    let text = metrics.encode();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    kinds.map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() }).collect()
}

#[test]
fn alerts_are_about_metrics_that_there_are() {
    let told = told();
    let unknown: Vec<_> = spoken_of().into_iter().filter(|name| !told.contains(*name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} of {told:?}");
}

#[test]
fn whatever_tells_of_a_sink_or_a_source_has_an_alert() {
    let spoken_of = spoken_of();
    let kinds = ["sink_", "source_", "delivery_", "unrouted_", "webhooks_", "message", "dead_letters", "events_"];
    let of_them = |name: &String| kinds.iter().any(|kind| name.starts_with(&format!("allocation_{kind}")));
    let silent: Vec<_> = told().into_iter().filter(of_them).filter(|name| !spoken_of.contains(name.as_str())).collect();
    assert!(silent.is_empty(), "{silent:?}");
}
