//! The disk fails under SQLite: whoever asks is told so, no promise that was answered is lost, and all is well again once the disk is, or after a restart.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use allocation_testing::disk::{Fault, FaultyDisk};
use allocation_testing::eventually;
use futures_util::future::join_all;
use serde_json::json;

use crate::support::{On, Service, Store};

/// Who ask for lamps, one order after the other.
const CLIENTS: usize = 8;
/// How many answers there are before the disk fails, and again once it is well.
const ANSWERS: usize = 100;

/// Orders that are asked for until they are answered with a promise.
struct Orders<'a> {
    service: &'a Service,
    begun: AtomicUsize,
    promised: AtomicUsize,
    refused: AtomicUsize,
    over: AtomicBool,
}

impl<'a> Orders<'a> {
    /// Goes on with the next number.
    fn from(service: &'a Service, number: usize) -> Self {
        let (begun, promised, refused) = (number.into(), number.into(), 0.into());
        Self { service, begun, promised, refused, over: false.into() }
    }

    /// Asks until it is over, for each as long as it takes.
    async fn ask(&self) {
        while !self.over.load(Ordering::SeqCst) {
            let order = format!("o{}", self.begun.fetch_add(1, Ordering::SeqCst));
            eventually("a promise", async || self.is_promised(&order).await.then_some(())).await;
            self.promised.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether an order is promised now. If not, that is the disk's fault, and said so.
    async fn is_promised(&self, order: &str) -> bool {
        let answer = self.service.order(order, &[("LAMP", 1)]).await;
        if answer.status.is_success() {
            return true;
        }
        assert_eq!(answer.status.as_u16(), 503, "{}", answer.text);
        let problem = answer.json();
        assert_eq!(problem["type"], "urn:allocation:problem:store-unavailable", "{problem}");
        assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
        self.refused.fetch_add(1, Ordering::SeqCst);
        false
    }

    /// Waits for so many more promises.
    async fn promises(&self) {
        let wanted = self.promised.load(Ordering::SeqCst) + ANSWERS;
        eventually("promises", async || (self.promised.load(Ordering::SeqCst) >= wanted).then_some(())).await;
    }

    /// Waits until the disk has begun to fail and everybody may have been told.
    async fn refusals(&self) {
        let wanted = self.refused.load(Ordering::SeqCst) + CLIENTS;
        eventually("it to be told", async || (self.refused.load(Ordering::SeqCst) >= wanted).then_some(())).await;
    }

    /// Asks while the disk fails, is well again, and fails once more.
    async fn ask_through(&self, fault: Fault, disk: &FaultyDisk) {
        let failing = async {
            self.promises().await;
            disk.set(Some(fault));
            self.refusals().await;
            // What can't be written can still be read.
            self.service.get("/v1/products/LAMP").await.expect(200);
            disk.set(None);
            self.promises().await;
            disk.set(Some(fault));
            self.refusals().await;
            self.over.store(true, Ordering::SeqCst);
        };
        // Those who are not answered give up.
        let asking = join_all((0..CLIENTS).map(|_| self.ask()));
        tokio::select! { _ = asking => {}, () = failing => {} }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_is_told_of_and_takes_no_promise_with_it() {
    let Some(disk) = FaultyDisk::new() else {
        println!("skipped: needs a C compiler");
        return;
    };
    let mut store = Store::new(On::Sqlite).await;
    for (name, value) in disk.environment() {
        store = store.with(name, &value);
    }
    let mut promised = 0;
    for fault in [Fault::Full, Fault::NoWrites, Fault::NoSyncs] {
        let service = store.serve().await;
        service.batch("LAMP", &format!("{fault:?}"), json!({"qty": 1_000_000})).await;
        let orders = Orders::from(&service, promised);
        orders.ask_through(fault, &disk).await;
        assert!(service.program.log().contains("store unavailable"), "{}", service.program.log());
        promised = orders.begun.load(Ordering::SeqCst);
        service.program.kill().await;
        disk.set(None);
        let service = store.serve().await;
        let orders = Orders::from(&service, 0);
        for n in 0..promised {
            // Each that was begun: promised before, or now.
            assert!(orders.is_promised(&format!("o{n}")).await, "o{n}");
        }
        assert_eq!(service.product("LAMP").await["allocated"], promised, "{fault:?}");
        store.assert_balanced().await;
    }
}
