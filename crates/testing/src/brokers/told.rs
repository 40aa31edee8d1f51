//! What a consumer has been told.

use std::collections::BTreeMap;

use serde_json::Value;

/// The last event of each product that a consumer has had, none missing before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told(BTreeMap<String, u64>);

impl Told {
    /// Takes an event, and fails the test when one is missing before it. Gives it unless the consumer has had it.
    pub fn hear(&mut self, body: &str) -> Option<Value> {
        let event: Value = serde_json::from_str(body).expect("an event");
        let (product, sequence) = (event["subject"].as_str()?, event["sequence"].as_u64()?);
        let last = self.0.entry(product.to_owned()).or_default();
        assert!(sequence <= *last + 1, "{product}: after {last} comes {sequence}");
        let is_new = sequence > *last;
        *last = sequence.max(*last);
        is_new.then_some(event)
    }

    /// The sequence number of the last event of each product.
    pub fn last(&self) -> &BTreeMap<String, u64> {
        &self.0
    }
}
