//! Dead letters: kept as they came until somebody decides.

use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::dead_letters::{DeadLetter, KeptLetter};

use super::{Fixture, Store};

fn letter<S>(fixture: &Fixture<S>, body: &[u8], reason: &str) -> DeadLetter {
    DeadLetter {
        received_at: fixture.clock.now(),
        source: "broker".into(),
        channel: "allocation.commands".into(),
        headers: vec![("b".into(), "\"'\u{1f600}".into()), ("a".into(), String::new()), ("b".into(), "2".into())],
        body: body.to_vec(),
        reason: reason.into(),
    }
}

async fn all<S: Store>(fixture: &Fixture<S>) -> Vec<KeptLetter> {
    fixture.store.letters(None, 100).await.expect("letters")
}

/// With everything one needs to know, byte for byte.
pub async fn dead_letters_are_kept_newest_first<S: Store>(fixture: Fixture<S>) {
    let store = &fixture.store;
    let letters = [&b"one"[..], b"two", b"{'", b"\0\xff\xfe"].map(|body| letter(&fixture, body, "not JSON"));
    for letter in &letters {
        store.bury(letter).await.expect("a grave");
    }
    let kept = all(&fixture).await;
    assert!(kept.iter().map(|kept| &kept.letter).eq(letters.iter().rev()), "{kept:?}");
    assert!(kept.iter().all(|kept| kept.times == 1));
    assert_eq!(store.letters(None, 2).await.expect("letters"), kept[..2]);
    assert_eq!(store.letters(Some(kept[1].id), 2).await.expect("letters"), kept[2..]);
    assert_eq!(store.letter(kept[2].id).await.expect("a letter").as_ref(), Some(&kept[2]));
    assert_eq!(store.letter(kept[0].id + 1).await.expect("no letter"), None);
    assert_eq!(store.count_letters().await.expect("a count"), 4);
}

/// Whoever dies between keeping it and telling the broker gets it again.
pub async fn a_letter_that_comes_again_is_the_same_letter<S: Store>(fixture: Fixture<S>) {
    let store = &fixture.store;
    store.bury(&letter(&fixture, b"one", "unknown SKU")).await.expect("a grave");
    let first = all(&fixture).await.remove(0);
    fixture.clock.advance(std::time::Duration::from_secs(1));
    let again =
        DeadLetter { headers: vec![("again".into(), "yes".into())], ..letter(&fixture, b"one", "out of stock") };
    store.bury(&again).await.expect("a grave");
    assert_eq!(all(&fixture).await, [KeptLetter { id: first.id, times: 2, letter: again }]);
    for elsewhere in [
        DeadLetter { source: "other".into(), ..letter(&fixture, b"one", "unknown SKU") },
        DeadLetter { channel: "other".into(), ..letter(&fixture, b"one", "unknown SKU") },
    ] {
        store.bury(&elsewhere).await.expect("a grave");
    }
    assert_eq!(store.count_letters().await.expect("a count"), 3);
}

/// And no later letter gets its number.
pub async fn a_letter_that_is_dropped_is_gone<S: Store>(fixture: Fixture<S>) {
    let store = &fixture.store;
    store.bury(&letter(&fixture, b"one", "not JSON")).await.expect("a grave");
    let id = all(&fixture).await[0].id;
    assert!(store.drop_letter(id).await.expect("an answer"));
    assert!(!store.drop_letter(id).await.expect("an answer"));
    assert_eq!(all(&fixture).await, []);
    store.bury(&letter(&fixture, b"two", "not JSON")).await.expect("a grave");
    assert!(all(&fixture).await[0].id > id);
}
