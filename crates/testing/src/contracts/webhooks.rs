//! Webhooks: kept whole, changed by one at a time.

use std::time::Duration;

use allocation_service_layer::feed::Filter;
use allocation_service_layer::ports::clock::{Clock, Entropy};
use allocation_service_layer::ports::webhooks::{Failure, Paused, Trouble, Webhook, WebhookId};
use allocation_service_layer::webhooks::Secret;

use super::{Fixture, Store};
use crate::clock::CountingEntropy;
use crate::shorthand::sku;

/// With nothing said of it that need not be.
fn plain<S: Store>(fixture: &Fixture<S>, entropy: &CountingEntropy) -> Webhook {
    let now = fixture.clock.now();
    Webhook {
        id: WebhookId(entropy.uuid(now)),
        revision: 1,
        url: "https://example.com/hooks?a='1'".into(),
        filter: Filter::default(),
        secret: Secret::new(entropy),
        old_secret: None,
        created_at: now,
        paused: None,
        trouble: None,
        last_failure: None,
    }
}

/// In the order of registration, and each with everything.
pub async fn a_webhook_is_kept_with_all_that_is_known_of_it<S: Store>(fixture: Fixture<S>) {
    let (store, entropy) = (&fixture.store, CountingEntropy::default());
    assert_eq!(store.hooks().await.expect("an answer"), []);
    let first = plain(&fixture, &entropy);
    store.add(&first, 0).await.expect("a new one");
    fixture.clock.advance(Duration::from_secs(1));
    let now = fixture.clock.now();
    let second = Webhook {
        filter: Filter { skus: [sku("A"), sku("B 'x'")].into(), topics: ["line_allocated", "out_of_stock"].into() },
        old_secret: Some((Secret::new(&entropy), now + Duration::from_hours(24))),
        paused: Some(Paused::Failing),
        trouble: Some(Trouble { since: now, attempts: 7, next: now + Duration::from_secs(5) }),
        last_failure: Some(Failure { at: now, why: "answered 500".into() }),
        ..plain(&fixture, &entropy)
    };
    store.add(&second, 12).await.expect("a new one");
    assert_eq!(store.hooks().await.expect("an answer"), [first.clone(), second.clone()]);
    assert_eq!(store.hook(second.id).await.expect("an answer"), Some(second.clone()));
    assert_eq!(store.progress(&first.id.sink()).await.expect("progress"), 0);
    assert_eq!(store.progress(&second.id.sink()).await.expect("progress"), 12);
    assert_eq!(store.hook(WebhookId(entropy.uuid(now))).await.expect("an answer"), None);
}

/// So that a failure that is noted and a change that somebody wants don't undo one another.
pub async fn a_webhook_is_changed_by_whoever_knows_its_newest_form<S: Store>(fixture: Fixture<S>) {
    let (store, entropy) = (&fixture.store, CountingEntropy::default());
    let hook = plain(&fixture, &entropy);
    store.add(&hook, 0).await.expect("a new one");
    let now = fixture.clock.now();
    for paused in Paused::ALL {
        let known = store.hook(hook.id).await.expect("an answer").expect("it is there");
        let changed = Webhook {
            url: format!("https://example.com/{}", paused.name()),
            filter: Filter { skus: [sku("C")].into(), topics: ["low_stock"].into() },
            secret: Secret::new(&entropy),
            old_secret: Some((known.secret.clone(), now)),
            paused: Some(paused),
            trouble: Some(Trouble { since: now, attempts: 1, next: now }),
            last_failure: Some(Failure { at: now, why: "no".into() }),
            ..known.clone()
        };
        assert!(store.change(&changed).await.expect("an answer"));
        assert!(!store.change(&known).await.expect("an answer"), "it is not the newest form any more");
        let stored = store.hook(hook.id).await.expect("an answer");
        assert_eq!(stored, Some(Webhook { revision: known.revision + 1, ..changed }));
    }
    let unknown = plain(&fixture, &entropy);
    assert!(!store.change(&unknown).await.expect("an answer"));
}

/// Another that is registered begins where it wants to.
pub async fn a_webhook_that_is_removed_takes_its_progress_with_it<S: Store>(fixture: Fixture<S>) {
    let (store, entropy) = (&fixture.store, CountingEntropy::default());
    let (hook, other) = (plain(&fixture, &entropy), plain(&fixture, &entropy));
    store.add(&hook, 5).await.expect("a new one");
    store.add(&other, 6).await.expect("a new one");
    assert!(store.remove(hook.id).await.expect("an answer"));
    assert!(!store.remove(hook.id).await.expect("an answer"));
    assert!(!store.change(&hook).await.expect("an answer"));
    assert_eq!(store.progress(&hook.id.sink()).await.expect("progress"), 0);
    assert_eq!(store.progress(&other.id.sink()).await.expect("progress"), 6);
    assert_eq!(store.hooks().await.expect("an answer"), [other]);
}
