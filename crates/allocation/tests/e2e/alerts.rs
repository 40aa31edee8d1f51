//! The alerting rules speak of metrics that there are, and leave out none of those that tell of sinks and sources.

use std::collections::BTreeSet;

use crate::measures::samples;

const RULES: &str = include_str!("../../../../deploy/alerts.yml");

/// The metrics that the rules speak of.
fn spoken_of() -> BTreeSet<&'static str> {
    let expressions = RULES.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let words = expressions.flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.filter(|word| word.starts_with("allocation_")).collect()
}

#[test]
fn alerts_are_about_metrics_that_there_are() {
    let told = samples();
    let unknown: Vec<_> = spoken_of().into_iter().filter(|name| !told.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} of {told:?}");
}

#[test]
fn whoever_is_alerted_finds_where_to_look_first() {
    let table = include_str!("../../../../docs/operations.md");
    let alerts = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let silent: Vec<_> = alerts.filter(|alert| !table.contains(&format!("`{alert}`"))).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn whatever_tells_of_a_sink_or_a_source_has_an_alert() {
    let spoken_of = spoken_of();
    let kinds =
        ["sink_", "source_", "delivery_failures", "unrouted_", "webhooks_", "message", "dead_letters", "events_"];
    let of_them = |name: &String| kinds.iter().any(|kind| name.starts_with(&format!("allocation_{kind}")));
    let silent: Vec<_> =
        samples().into_keys().filter(of_them).filter(|name| !spoken_of.contains(name.as_str())).collect();
    assert!(silent.is_empty(), "{silent:?}");
}
