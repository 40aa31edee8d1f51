//! Publishes a range of the feed again, for a broker that has lost it.

use std::sync::Arc;

use allocation_service_layer::ports::event_log::{EventLog, FeedEvent};
use allocation_service_layer::ports::event_publisher::EventPublisher;
use allocation_service_layer::relay::Sink;
use allocation_service_layer::wire;
use time::OffsetDateTime;

use crate::Failure;
use crate::bootstrap::Store;
use crate::config::Config;
use crate::serve::configured_sinks;
use crate::when::instant;

/// How many events are read and published in one go.
const PAGE: usize = 1_000;

/// Where a range begins or ends; it is part of the range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// A position of the feed.
    Position(u64),
    /// An instant at which something happened.
    Instant(OffsetDateTime),
}

impl std::str::FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(position) = text.parse() {
            return Ok(Self::Position(position));
        }
        instant(text, "a position").map(Self::Instant)
    }
}

/// A range of the feed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) from: Bound,
    pub(crate) to: Bound,
}

impl Range {
    /// Whether an event is in it; nothing, when it is behind all that is.
    fn has(self, event: &FeedEvent) -> Option<bool> {
        let happened = || wire::envelope(&event.body).ok().and_then(|envelope| envelope.time());
        let begun = match self.from {
            Bound::Position(from) => event.position >= from,
            Bound::Instant(from) => happened().is_some_and(|at| at >= from),
        };
        match self.to {
            Bound::Position(to) => (event.position <= to).then_some(begun),
            // Products have clocks of their own: what comes later in the feed may have happened earlier.
            Bound::Instant(to) => Some(begun && happened().is_some_and(|at| at <= to)),
        }
    }
}

/// Publishes a range to a sink that is configured, and says how many events that were.
pub(crate) async fn run(config: &Config, sink: &str, range: Range) -> Result<usize, Failure> {
    let store = Store::open_migrated(config).await?;
    let sinks = configured_sinks(config, &store.ambient.metrics)?;
    let publishers: Vec<Arc<dyn EventPublisher>> = sinks.into_iter().filter_map(Sink::into_publisher).collect();
    let Some(publisher) = publishers.iter().find(|publisher| publisher.name() == sink) else {
        let names: Vec<&str> = publishers.iter().map(|publisher| publisher.name()).collect();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(format!("no sink {sink:?} is configured; those that are: {known}").into());
    };
    replay(store.log().as_ref(), publisher.as_ref(), range).await
}

/// Publishes a range, in order, page by page.
async fn replay(log: &dyn EventLog, publisher: &dyn EventPublisher, range: Range) -> Result<usize, Failure> {
    let last = log.last_position().await?;
    let mut after = match range.from {
        Bound::Position(0) => return Err("positions begin at 1".into()),
        Bound::Position(from) => from - 1,
        Bound::Instant(_) => 0,
    };
    match (range.from, range.to) {
        (Bound::Position(from), Bound::Position(to)) if from > to => {
            return Err("the range ends before it begins".into());
        }
        (Bound::Instant(from), Bound::Instant(to)) if from > to => return Err("the range ends before it begins".into()),
        (_, Bound::Position(to)) if to > last => return Err(format!("the last position is {last}").into()),
        _ => {}
    }
    let mut told = 0;
    loop {
        let page = log.read(after, PAGE).await?;
        if after < page.kept_after && told == 0 {
            let is_lost = match range.from {
                Bound::Position(from) => from <= page.kept_after,
                Bound::Instant(_) => page.events.first().is_none_or(|oldest| range.has(oldest) != Some(false)),
            };
            if is_lost {
                let first = page.kept_after + 1;
                return Err(
                    format!("events before position {first} were archived, and can't be published again").into()
                );
            }
        }
        let Some(end) = page.events.last() else { return Ok(told) };
        after = end.position;
        let wanted: Vec<FeedEvent> =
            page.events.iter().filter(|&event| range.has(event) == Some(true)).cloned().collect();
        if !wanted.is_empty() {
            let failed = |error| format!("{told} events were published, and then: {error}");
            publisher.publish(&wanted).await.map_err(failed)?;
            told += wanted.len();
        }
        if range.has(end).is_none() {
            return Ok(told);
        }
    }
}

#[cfg(test)]
mod tests {
    use allocation_testing::clock::ManualClock;
    use allocation_testing::contracts::Fixture;
    use allocation_testing::fakes::{FakeDatabase, FakePublisher};
    use allocation_testing::shorthand::{create_batch, declare_batch};

    use super::*;

    /// A store in which one event happens each second.
    async fn store(events: u64) -> Fixture<FakeDatabase> {
        let clock = Arc::new(ManualClock::new());
        let fixture = Fixture { store: FakeDatabase::new(clock.clone()), clock, keep: None };
        fixture.handle([create_batch("b", "LAMP", 1, None)]).await;
        for units in 2..=events {
            fixture.clock.advance(std::time::Duration::from_secs(1));
            fixture.handle([declare_batch("b", "LAMP", units, None)]).await;
        }
        fixture
    }

    async fn replayed(fixture: &Fixture<FakeDatabase>, from: &str, to: &str) -> Result<Vec<u64>, String> {
        let publisher = FakePublisher::default();
        let range = Range { from: from.parse()?, to: to.parse()? };
        let count = replay(&fixture.store, &publisher, range).await.map_err(|error| error.to_string())?;
        let positions: Vec<u64> = publisher.published().iter().map(|event| event.position).collect();
        assert_eq!(positions.len(), count);
        Ok(positions)
    }

    #[tokio::test]
    async fn a_range_is_published_again_in_order_and_nothing_else() {
        let fixture = store(9).await;
        assert_eq!(replayed(&fixture, "3", "6").await.unwrap(), [3, 4, 5, 6]);
        assert_eq!(replayed(&fixture, "9", "9").await.unwrap(), [9]);
        let page = EventLog::read(&fixture.store, 0, 100).await.unwrap().events;
        let instant = |n: usize| wire::instant_text(wire::envelope(&page[n - 1].body).unwrap().time().unwrap());
        assert_eq!(replayed(&fixture, &instant(2), &instant(4)).await.unwrap(), [2, 3, 4]);
        assert_eq!(replayed(&fixture, "8", "2999-01-01T00:00:00Z").await.unwrap(), [8, 9]);
    }

    #[tokio::test]
    async fn a_range_of_many_pages_has_all_of_them() {
        let fixture = store(2_500).await;
        assert!(replayed(&fixture, "400", "2450").await.unwrap().into_iter().eq(400..=2_450));
    }

    #[tokio::test]
    async fn a_range_that_cannot_be_is_refused() {
        let fixture = store(3).await;
        for (from, to, complaint) in [
            ("0", "1", "positions begin at 1"),
            ("3", "2", "ends before it begins"),
            ("1", "4", "the last position is 3"),
            ("yesterday", "4", "must be a position"),
        ] {
            let refused = replayed(&fixture, from, to).await.unwrap_err();
            assert!(refused.contains(complaint), "{from}..{to}: {refused}");
        }
    }

    #[tokio::test]
    async fn a_range_of_which_the_beginning_was_archived_is_refused() {
        let fixture = store(9).await;
        fixture.store.introduce("a sink", 4).await.unwrap();
        fixture.archive().await;
        let refused = replayed(&fixture, "4", "9").await.unwrap_err();
        assert_eq!(refused, "events before position 5 were archived, and can't be published again");
        assert_eq!(replayed(&fixture, "5", "7").await.unwrap(), [5, 6, 7]);
        assert!(replayed(&fixture, "1999-01-01T00:00:00Z", "2999-01-01T00:00:00Z").await.is_err());
    }

    #[tokio::test]
    async fn a_broker_that_is_down_ends_it_and_says_how_far_it_was() {
        let fixture = store(3).await;
        let publisher = FakePublisher::default();
        publisher.fail(1);
        let range = Range { from: Bound::Position(1), to: Bound::Position(3) };
        let failure = replay(&fixture.store, &publisher, range).await.unwrap_err().to_string();
        assert_eq!(failure, "0 events were published, and then: told to fail");
    }
}
