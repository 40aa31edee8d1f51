//! Thousands of connections on which little or nothing happens: nobody else is to notice.

use std::time::Duration;

use allocation_adapters::system::SystemClock;
use allocation_service_layer::ports::clock::Clock;
use allocation_testing::eventually;
use futures_util::StreamExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::raw::{DATA, HEADERS, Raw, frame, head, put};
use crate::support::{On, Service, Store};

/// How many there are to be.
const WANTED: usize = 5_000;
/// Files of this process that are for something else.
const OTHERS: usize = 500;
/// The most memory that the program may have at any time.
const MOST_MEMORY: u64 = 256 * 1024 * 1024;
/// How many orders are timed in one go, and how many clients ask for them.
const ORDERS: usize = 600;
const CLIENTS: usize = 4;

/// How many connections there can be: as many as wanted, unless this process may not have so many files open.
fn as_many_as_can_be() -> usize {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).unwrap();
    let can_be = hard.map_or(WANTED, |files| usize::try_from(files).unwrap().saturating_sub(OTHERS)).min(WANTED);
    if can_be < WANTED {
        println!("{can_be} connections instead of {WANTED}: no more files may be open here (`ulimit -Hn`)");
    }
    assert!(can_be >= 200, "too few files may be open here for this test: `ulimit -Hn` must give 700 at least");
    can_be
}

/// A connection of the nth kind that has no end of saying what it wants.
async fn slow(service: &Service, nth: usize) -> Raw {
    let address = service.program.address();
    let put_head = "PUT /v1/products/LAMP/batches/b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{";
    match nth % 6 {
        // Nothing at all.
        0 => Raw::to(address).await,
        // A head that does not end.
        1 => {
            let mut raw = Raw::to(address).await;
            raw.send("GET /healthz HTTP/1.1\r\nx: ").await;
            raw
        }
        // A body that does not.
        2 => {
            let mut raw = Raw::to(address).await;
            raw.send(put_head).await;
            raw
        }
        // The same of HTTP/2.
        3 => Raw::http2(address).await,
        4 => {
            let mut raw = Raw::http2(address).await;
            raw.send(frame(HEADERS, 0, 1, &head("GET", "/healthz"))).await;
            raw
        }
        _ => {
            let mut raw = Raw::http2(address).await;
            raw.send(put(1, "/v1/products/LAMP/batches/b")).await.send(frame(DATA, 0, 1, b"{")).await;
            raw
        }
    }
}

/// Says a little more on each, for as long as it is polled.
async fn go_on(connections: &mut [Raw]) {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    // Each of them within five seconds or so; a multiple of the kinds.
    let at_a_time = connections.len().div_ceil(300) * 6;
    loop {
        for some in connections.chunks_mut(at_a_time) {
            ticks.tick().await;
            for (nth, raw) in some.iter_mut().enumerate() {
                if matches!(nth % 6, 1 | 2) {
                    raw.send(b" ").await;
                }
            }
        }
    }
}

/// The time that one of a hundred orders took or more.
async fn p99(service: &Service, round: usize) -> Duration {
    let clock = SystemClock::new();
    let order = async |n: usize| {
        let begun = clock.monotonic();
        service.order(&format!("o{round}-{n}"), &[("LAMP", 1)]).await.expect(201);
        clock.monotonic().saturating_sub(begun)
    };
    let mut took: Vec<Duration> = futures_util::stream::iter(0..ORDERS).map(order).buffered(CLIENTS).collect().await;
    took.sort_unstable();
    took[ORDERS * 99 / 100]
}

/// What the program has or had of memory at most, where the system tells.
fn peak_memory(service: &Service) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.program.pid())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_silent_and_slow_connections_hinder_nobody() {
    let many = as_many_as_can_be();
    let mut store = Store::new(On::Postgres).await;
    // All of them are to stay.
    for limit in ["HEAD_SECONDS", "BODY_SECONDS", "IDLE_SECONDS"] {
        store = store.with(limit, "300");
    }
    let service = store.with("ANSWER_SECONDS", "300").serve().await;
    service.batch("LAMP", "b", json!({"qty": 1_000_000})).await;
    let mut usual = Duration::MAX;
    for round in 0..3 {
        usual = usual.min(p99(&service, round).await);
    }

    let mut connections: Vec<Raw> =
        futures_util::stream::iter(0..many).map(|nth| slow(&service, nth)).buffered(64).collect().await;
    let open = async || service.metric("allocation_connections").await;
    eventually("all to be there", async || (open().await >= many as u64).then_some(())).await;

    // The machine may be busy with something else now and then.
    let mut beside = Duration::MAX;
    tokio::select! {
        () = go_on(&mut connections) => unreachable!("it goes on"),
        () = async {
            for round in 3..8 {
                beside = beside.min(p99(&service, round).await);
                if beside <= 2 * usual {
                    return;
                }
            }
        } => {}
    }
    let memory = peak_memory(&service);
    println!("p99 {usual:?}, beside {many} slow connections {beside:?}; memory {memory:?}");
    assert!(open().await >= many as u64, "they are all still there");
    assert!(beside <= 2 * usual, "p99 is {beside:?} beside them, and {usual:?} without");
    assert!(memory.is_none_or(|memory| memory < MOST_MEMORY), "{memory:?} bytes");
}
