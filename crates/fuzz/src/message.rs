//! Messages of other services.

use std::sync::Arc;

use allocation_entrypoints::consumer::{CHANGE_BATCH_QUANTITY, Consumer, Delivery};
use allocation_service_layer::group_commit::{Lane, Limits};
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::dead_letters::DeadLetters;
use allocation_service_layer::ports::tracer::Traces;
use allocation_testing::clock::{CountingEntropy, ManualClock};
use allocation_testing::contracts::Fixture;
use allocation_testing::fakes::FakeDatabase;
use allocation_testing::shorthand::declare_batch;
use tokio_util::sync::CancellationToken;

/// A command as a message.
pub(crate) fn read(bytes: &[u8]) {
    consume("allocation.commands", bytes);
}

/// A message as the Python original knows it.
pub(crate) fn read_quantity(bytes: &[u8]) {
    consume(CHANGE_BATCH_QUANTITY, bytes);
}

/// Any message is settled, by its effect or as a letter.
fn consume(channel: &str, body: &[u8]) {
    crate::runtime().block_on(async {
        let clock = Arc::new(ManualClock::new());
        let fixture = Fixture { store: FakeDatabase::new(clock.clone()), clock: clock.clone(), keep: None };
        for verdict in fixture.handle([declare_batch("b", "LAMP", 10, None)]).await {
            verdict.expect("a batch");
        }
        let (lane, commands) = Lane::new(Arc::new(fixture.bus()), Limits::default());
        tokio::spawn(lane.run());
        let store = Arc::new(fixture.store.clone());
        let consumer = Consumer {
            commands: Arc::new(commands),
            reader: store.clone(),
            log: store.clone(),
            dead_letters: store.clone(),
            clock,
            entropy: Arc::new(CountingEntropy::default()),
            metrics: Metrics::new(),
            traces: Traces::default(),
            holder: "fuzz".into(),
        };
        let delivery = Delivery {
            tag: "1-0".into(),
            channel: channel.into(),
            sent_at: None,
            headers: Vec::new(),
            body: body.to_vec(),
        };
        assert!(consumer.work("fuzz", &[delivery], &CancellationToken::new()).await, "it is settled");
        let letters = store.letters(None, 10).await.expect("the store works");
        for letter in letters {
            assert!(!letter.letter.reason.is_empty(), "a letter says why it is one");
        }
    });
}
