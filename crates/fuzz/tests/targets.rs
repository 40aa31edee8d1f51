//! Each target reads what is in its folder, and thousands of things like it.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use allocation_fuzz::{TARGETS, Target};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// What is in its folder.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// One thing that is done to what is in a folder.
#[derive(Debug, Clone)]
enum Change {
    Put(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Cut(prop::sample::Index, prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
    Splice(prop::sample::Index, prop::sample::Index),
}

/// Bytes that mean something to somebody.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), prop::sample::select(br#"0123456789-+.eE"'\/{}[],:;%&?=# "#.as_slice()), Just(0), Just(10)]
}

fn change() -> impl Strategy<Value = Change> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        (place(), byte()).prop_map(|(at, with)| Change::Put(at, with)),
        (place(), prop::collection::vec(byte(), 1..6)).prop_map(|(at, what)| Change::Insert(at, what)),
        (place(), place()).prop_map(|(from, to)| Change::Cut(from, to)),
        (place(), place()).prop_map(|(from, to)| Change::Repeat(from, to)),
        (place(), place()).prop_map(|(other, at)| Change::Splice(other, at)),
    ]
}

impl Change {
    fn make(&self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let end = bytes.len() + 1;
        let range = |one: &prop::sample::Index, other: &prop::sample::Index| {
            let (one, other) = (one.index(end), other.index(end));
            one.min(other)..one.max(other)
        };
        match self {
            Self::Put(at, with) => {
                if let Some(byte) = bytes.get_mut(at.index(end)) {
                    *byte = *with;
                }
            }
            Self::Insert(at, what) => {
                let at = at.index(end);
                bytes.splice(at..at, what.iter().copied());
            }
            Self::Cut(from, to) => {
                bytes.drain(range(from, to));
            }
            Self::Repeat(from, to) => {
                let again = bytes[range(from, to)].to_vec();
                bytes.extend(again);
            }
            Self::Splice(other, at) => {
                let other = &corpus[other.index(corpus.len())];
                let at = at.index(end);
                bytes.splice(at.., other[at.min(other.len())..].iter().copied());
            }
        }
    }
}

fn reads(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "there is something that {name} can read");
    for bytes in &corpus {
        (target.read)(bytes);
    }
    let cases = (any::<prop::sample::Index>(), prop::collection::vec(change(), 1..6));
    let config = Config { cases: 1_000, failure_persistence: None, ..Config::default() };
    let read = TestRunner::new(config).run(&cases, |(which, changes)| {
        let mut bytes = corpus[which.index(corpus.len())].clone();
        for change in &changes {
            change.make(&mut bytes, &corpus);
        }
        catch_unwind(AssertUnwindSafe(|| (target.read)(&bytes)))
            .map_err(|_| TestCaseError::fail(format!("on {:?}", String::from_utf8_lossy(&bytes))))
    });
    if let Err(error) = read {
        panic!("{error}");
    }
}

macro_rules! read {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                reads(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_tried() {
            let tried: Vec<&str> = vec![$(stringify!($name)),*];
            assert_eq!(tried, TARGETS.iter().map(|target| target.name).collect::<Vec<_>>());
        }
    };
}

read! {
    request message quantity_message credential token_keys batches_file orders_file event checkpoint levels date webhook_secret
}
