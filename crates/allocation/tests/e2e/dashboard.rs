//! The dashboard asks for metrics and labels that there are, and leaves out no metric.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::measures::samples;

const DASHBOARD: &str = include_str!("../../../../deploy/grafana-dashboard.json");

/// Labels that Prometheus gives to what it scrapes.
const SCRAPED: [&str; 2] = ["instance", "job"];

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).unwrap()
}

/// Every question of a panel: the expression, and how its answers are called.
fn questions() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let text = |target: &Value, name: &str| target[name].as_str().unwrap().to_owned();
    targets.map(|target| (text(target, "expr"), text(target, "legendFormat"))).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

fn metrics(expression: &str) -> BTreeSet<&str> {
    words(expression).filter(|word| word.starts_with("allocation_")).collect()
}

/// What stands between `open` and `close`, each time.
fn between<'a>(text: &'a str, open: &'a str, close: char) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split(close).next())
}

/// The labels that an expression groups by or joins on.
fn grouped(expression: &str) -> BTreeSet<&str> {
    ["by (", "on ("].iter().flat_map(|open| between(expression, open, ')')).flat_map(words).collect()
}

/// The labels that it chooses by.
fn chosen(expression: &str) -> BTreeSet<&str> {
    let matchers = between(expression, "{", '}').flat_map(|matchers| matchers.split(", "));
    matchers.filter_map(|matcher| words(matcher).next()).collect()
}

#[test]
fn each_panel_asks_for_metrics_and_labels_that_there_are() {
    let samples = samples();
    for (expression, legend) in questions() {
        let mut known: BTreeSet<&str> = SCRAPED.into();
        for metric in metrics(&expression) {
            let labels = samples.get(metric).unwrap_or_else(|| panic!("there is no {metric}: {expression}"));
            known.extend(labels.iter().map(String::as_str));
        }
        let (grouped, chosen) = (grouped(&expression), chosen(&expression));
        assert!(grouped.is_subset(&known) && chosen.is_subset(&known), "{expression}: there are {known:?}");
        assert!(SCRAPED.iter().all(|label| chosen.contains(label)), "of which copies is not said: {expression}");
        let named: BTreeSet<&str> = between(&legend, "{{", '}').collect();
        assert!(named.is_subset(&grouped), "{legend} names what is not grouped by: {expression}");
    }
}

#[test]
fn every_metric_is_on_the_dashboard() {
    let questions = questions();
    let asked: BTreeSet<&str> = questions.iter().flat_map(|(expression, _)| metrics(expression)).collect();
    // Of a histogram, its buckets are enough.
    let part_of_histogram = |name: &str| ["_sum", "_count"].iter().any(|part| name.ends_with(part));
    let silent: Vec<_> =
        samples().into_keys().filter(|name| !part_of_histogram(name) && !asked.contains(name.as_str())).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn panels_have_names_and_places_of_their_own() {
    let dashboard = dashboard();
    let (mut ids, mut titles, mut places) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
    let mut row = "";
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let title = panel["title"].as_str().unwrap();
        if panel["type"] == "row" {
            row = title;
        }
        assert!(titles.insert((row, title), ()).is_none(), "{row}: {title}");
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for x in place("x")..place("x") + place("w") {
            assert!(x < 24, "{title} goes beyond the edge");
            for y in place("y")..place("y") + place("h") {
                assert!(places.insert((x, y)), "{title} lies on another");
            }
        }
    }
}
