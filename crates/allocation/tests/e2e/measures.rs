//! The program's metrics, as those who ask for them know them.

use std::collections::{BTreeMap, BTreeSet};

use allocation_service_layer::metrics::{
    CommandLabels, Metrics, Outcome, RequestLabels, RouteLabels, SinkLabels, SourceLabels, StockLabels, UnitState,
};

/// Every metric as samples name it, with its labels. A family tells of itself once it has a sample.
pub(crate) fn samples() -> BTreeMap<String, BTreeSet<String>> {
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
    metrics.delivery_seconds.get_or_create(&sink).observe(1.0);
    metrics.full.get_or_create(&sink).set(1);
    metrics.source_lag.get_or_create(&source).set(1);
    metrics.source_lag_seconds.get_or_create(&source).set(1.0);
    metrics.commands.get_or_create(&CommandLabels { command: "allocate", outcome: Outcome::done }).inc();
    let request = RequestLabels { route: RouteLabels { method: "GET", route: "/".into() }, status: 200 };
    metrics.request_seconds.get_or_create(&request.route).observe(1.0);
    metrics.requests.get_or_create(&request).inc();
    metrics.units.get_or_create(&StockLabels { state: UnitState::held }).set(1);
    let text = metrics.encode();
    let mut samples: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let sample = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let labels =
            labels.trim_end_matches('}').split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        samples.entry(name.to_owned()).or_default().extend(labels);
    }
    samples
}
