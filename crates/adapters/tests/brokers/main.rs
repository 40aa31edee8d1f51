//! Publishers on real brokers.

mod stream;

use allocation_service_layer::ports::event_log::FeedEvent;

/// Events of so many products, in turn, from this position on.
fn events(positions: std::ops::Range<u64>, products: u64) -> Vec<FeedEvent> {
    let event = |position: u64| FeedEvent {
        position,
        body: format!(
            r#"{{"specversion":"1.0","id":"{position}","source":"/allocation","type":"allocation.line_allocated.v1","subject":"SKU-{}","time":"2011-01-02T03:04:05Z","sequence":{},"correlation":"0198c5a6-6d50-7f00-8000-000000000000","actor":"anonymous","data":{{"order_id":"o{position}","line":"1","qty":1,"ref":"batch"}}}}"#,
            position % products,
            position / products + 1,
        ),
    };
    positions.map(event).collect()
}
