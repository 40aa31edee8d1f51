//! Two copies behind a proxy are restarted in turns, under half of what they can take at most: not one request fails.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use allocation_adapters::system::SystemClock;
use allocation_adapters::tls;
use allocation_service_layer::ports::clock::Clock;
use allocation_testing::eventually;
use allocation_testing::program::{Program, command};
use allocation_testing::servers::{HaProxy, free_port, postgres_url};
use futures_util::future::{join, join_all};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::chaos;

const PROGRAM: &str = env!("CARGO_BIN_EXE_allocation");
/// For how long a copy that is to stop takes requests: many times as long as the proxy takes to notice, on a busy machine too.
const NOTICE: (&str, &str) = ("STOP_NOTICE_SECONDS", "3");
/// Who ask as fast as they are answered, to find out how fast that is.
const CLIENTS: usize = 32;
/// How much they ask for.
const FIRST: u32 = 2_000;
/// How often some are sent afterwards.
const TICK: Duration = Duration::from_millis(5);

/// One of two copies.
struct Copy {
    address: SocketAddr,
    program: Program,
}

impl Copy {
    async fn start(address: SocketAddr, environment: &[(&str, &str)]) -> Self {
        let mut serve = command(Path::new(PROGRAM), environment, &["serve"]);
        Self { address, program: Program::spawn(serve.env("LISTEN", address.to_string())).await }
    }
}

/// Orders for one unit each, through the proxy.
struct Orders {
    client: Client,
    proxy: HaProxy,
    sent: AtomicU32,
}

impl Orders {
    /// Sends the next; which copy has answered. Whatever else is answered fails the test.
    async fn send(&self) -> String {
        let n = self.sent.fetch_add(1, Ordering::SeqCst);
        let order = json!({"lines": [{"sku": "LAMP", "qty": 1}]});
        let sent = self.client.put(self.proxy.url(&format!("/v1/orders/o{n}"))).json(&order).send().await;
        let answer = sent.unwrap_or_else(|error| panic!("order {n}: {error:?}"));
        let copy = answer.headers().get(HaProxy::ANSWERED_BY).map(|copy| copy.to_str().unwrap().to_owned());
        assert_eq!(
            answer.status().as_u16(),
            201,
            "order {n}, by {copy:?}: {}{}",
            answer.text().await.unwrap(),
            self.proxy.log()
        );
        copy.expect("the proxy says which")
    }

    /// How many a second are answered at most.
    async fn peak(&self) -> f64 {
        let clock = SystemClock::default();
        join_all((0..CLIENTS).map(async |_| {
            while self.sent.load(Ordering::SeqCst) < FIRST {
                self.send().await;
            }
        }))
        .await;
        f64::from(FIRST) / clock.monotonic().as_secs_f64()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_that_are_restarted_in_turns_fail_no_request() {
    let restarts = chaos().max(2);
    tls::choose_ring();
    let url = postgres_url().await;
    let environment = [("DATABASE_URL", &*url), NOTICE];
    let addresses = [(); 2].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
    let Some(proxy) = HaProxy::start(&addresses).await else {
        println!("skipped: needs HAProxy");
        return;
    };
    let mut copies = Vec::new();
    for address in addresses {
        copies.push(Copy::start(address, &environment).await);
    }
    let client = Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
    let stock = client.put(copies[0].program.url("/v1/products/LAMP/batches/b")).json(&json!({"qty": 100_000_000}));
    assert_eq!(stock.send().await.unwrap().status().as_u16(), 201);
    let is_up = async |proxy: &HaProxy, copy: usize| {
        eventually(&format!("copy {copy} to be given requests"), async || {
            let answer = client.get(proxy.url("/healthz")).send().await.unwrap();
            (answer.headers().get(HaProxy::ANSWERED_BY)? == &*format!("copy-{copy}")).then_some(())
        })
        .await;
    };
    is_up(&proxy, 0).await;
    is_up(&proxy, 1).await;
    let orders = Arc::new(Orders { client: client.clone(), proxy, sent: AtomicU32::new(0) });

    let peak = orders.peak().await;
    let (begun, over) = (orders.sent.load(Ordering::SeqCst), AtomicBool::new(false));
    let clock = SystemClock::default();
    let asking = async {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut sent, mut due, mut under_way) = (0, 0.0, JoinSet::new());
        while !over.load(Ordering::SeqCst) {
            ticks.tick().await;
            due += peak / 2.0 * TICK.as_secs_f64();
            while f64::from(sent) < due {
                let orders = orders.clone();
                under_way.spawn(async move { orders.send().await });
                sent += 1;
            }
            while let Some(done) = under_way.try_join_next() {
                done.expect("an answer");
            }
        }
        under_way.join_all().await;
    };
    let restarting = async {
        for n in 0..restarts {
            let copy = copies.remove(0);
            let (address, program) = (copy.address, copy.program);
            assert_eq!(program.stop().await, Some(0));
            copies.push(Copy::start(address, &environment).await);
            is_up(&orders.proxy, n % 2).await;
        }
        over.store(true, Ordering::SeqCst);
    };
    let ((), ()) = join(asking, restarting).await;

    let (took, sent) = (clock.monotonic(), orders.sent.load(Ordering::SeqCst));
    let product: Value = client.get(orders.proxy.url("/v1/products/LAMP")).send().await.unwrap().json().await.unwrap();
    assert_eq!(product["allocated"], sent, "{product}");
    let verified = command(Path::new(PROGRAM), &environment, &["verify"]).output().await.unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    println!(
        "{restarts} restarts of two copies in turns, under {:.0} orders/s (the peak was {peak:.0}): all {} were promised, none failed",
        f64::from(sent - begun) / took.as_secs_f64(),
        sent - begun
    );
}
