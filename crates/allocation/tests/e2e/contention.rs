//! Many clients, one product, several copies of the program.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use allocation_adapters::system::SystemClock;
use allocation_service_layer::ports::clock::Clock;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Answer, On, Service, Store, instant, now, on_both_stores, today};

/// `clients` at a time ask for lines of one unit, `orders` in all, spread over the services. Gives how many were promised.
async fn rush(services: &[Arc<Service>], clients: usize, orders: usize) -> usize {
    let (next, promised) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let service = services[client % services.len()].clone();
        let (next, promised) = (next.clone(), promised.clone());
        tasks.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= orders {
                    return;
                }
                let answer = service.order(&format!("o{n}"), &[("HOT", 1)]).await;
                match answer.status.as_u16() {
                    201 => drop(promised.fetch_add(1, Ordering::Relaxed)),
                    409 => {}
                    _ => panic!("{answer:?}"),
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    promised.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_copies_over_one_database_promise_exactly_what_there_is() {
    let store = Store::new(On::Postgres).await;
    let services = [Arc::new(store.serve().await), Arc::new(store.serve().await)];
    services[0].batch("HOT", "b", json!({"qty": 5_000})).await;
    assert_eq!(rush(&services, 32, 10_000).await, 5_000);
    let product = services[1].get("/v1/products/HOT").await.expect(200).json();
    assert_eq!((&product["allocated"], &product["available"]), (&json!(5_000), &json!(0)));
    assert_eq!(product["version"], 5_002, "created, promised, and out of stock once");
    let said = store.assert_balanced().await;
    assert!(said.contains("5000 units allocated"), "{said}");
}

on_both_stores!(
    the_last_units_are_promised_once,
    a_large_cut_is_answered_with_the_first_thousand_and_lets_others_in_between,
);

async fn the_last_units_are_promised_once(on: On) {
    let store = Store::new(on).await;
    let service = Arc::new(store.serve().await);
    service.batch("HOT", "b", json!({"qty": 300})).await;
    assert_eq!(rush(std::slice::from_ref(&service), 16, 500).await, 300);
    service.order("late", &[("HOT", 1)]).await.expect(409);
    store.assert_balanced().await;
}

async fn a_large_cut_is_answered_with_the_first_thousand_and_lets_others_in_between(on: On) {
    const LINES: usize = 10_000;
    let store = Store::new(on).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    let rows: String = (0..LINES).map(|n| format!("o{n},HOT,1\n")).collect();
    std::fs::write(&file, format!("order_id,sku,qty\n{rows}")).unwrap();
    let service = store.serve().await;
    service.batch("HOT", "b", json!({"qty": 1_000_000})).await;
    service.batch("OTHER", "b", json!({"qty": 1_000_000})).await;
    assert!(store.run(&["import", "orders", file.to_str().unwrap()]).await.status.success());

    let cut = service.batch("HOT", "b", json!({"qty": 0}));
    let others = async {
        let mut answered = 0;
        loop {
            service.order(&format!("x{answered}"), &[("OTHER", 1)]).await.expect(201);
            answered += 1;
            let hot = service.get("/v1/products/HOT").await.expect(200).json();
            if hot["allocated"] == 0 {
                return answered;
            }
        }
    };
    let (cut, answered) = tokio::join!(cut, others);
    assert_eq!((&cut["qty"], &cut["displaced_total"]), (&json!(0), &json!(LINES)));
    assert_eq!(cut["displaced"].as_array().unwrap().len(), 1_000);
    assert!(answered > 1, "others are served while the cut goes on");
    let hot = service.get("/v1/products/HOT").await.expect(200).json();
    assert_eq!((&hot["allocated"], &hot["backordered"]), (&json!(0), &json!(LINES)));
    store.assert_balanced().await;
}

/// How long clients keep at it: a minute with `SOAK` set, or as many seconds as `SOAK_SECONDS` says.
fn soak() -> Duration {
    let seconds = std::env::var("SOAK_SECONDS").ok().map(|seconds| seconds.parse().expect("SOAK_SECONDS in seconds"));
    Duration::from_secs(seconds.unwrap_or(if std::env::var_os("SOAK").is_some() { 60 } else { 5 }))
}

/// Dice that fall the same way each time for the same client (xorshift).
pub(crate) struct Dice {
    state: u64,
    /// How often they were asked for a question: with it move the orders and batches that clients are busy with.
    asked: u64,
}

impl Dice {
    pub(crate) fn of(client: usize) -> Self {
        Self { state: (client as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15), asked: 0 }
    }

    /// From 0 to one below.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % limit
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()].clone()
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn sku(&mut self) -> String {
        format!("S{}", self.below(20))
    }

    fn reference(&mut self) -> String {
        format!("b{}", self.asked / 8 + self.below(4))
    }

    fn batch(&mut self) -> String {
        format!("/v1/products/{}/batches/{}", self.sku(), self.reference())
    }

    /// Where a batch is that is named so: mostly the same, as clients know.
    fn location_of(&mut self, reference: &str) -> &'static str {
        let number: usize = reference.rsplit('b').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        if self.chance(5) { "moon" } else { ["default", "north", "south"][number % 3] }
    }

    /// An order's number; it says which products the order is about.
    fn number(&mut self) -> u64 {
        self.asked + self.below(40)
    }

    fn order(&mut self) -> String {
        format!("/v1/orders/o{}", self.number())
    }

    fn line(&mut self) -> String {
        let number = self.number();
        format!("/v1/orders/o{number}/lines/S{}{}", number % 20, self.one(&["", "", "?line=2"]))
    }

    fn day(&mut self) -> String {
        if self.chance(5) {
            return "2011-01-01".into();
        }
        today(usize::try_from(self.below(60)).unwrap())
    }

    /// What an order may ask for, in all the ways there are.
    fn request(&mut self, number: u64) -> Value {
        let lines = [(number, "1"), (number + 7, "1"), (number, "2")];
        let lines: Vec<Value> = lines[..=usize::try_from(self.below(3)).unwrap()]
            .iter()
            // Mostly what others ask for under this number.
            .map(|(sku, line)| {
                let qty = if self.chance(10) { 1 + self.below(12) } else { 1 + number * sku % 12 };
                json!({"sku": format!("S{}", sku % 20), "line": line, "qty": qty})
            })
            .collect();
        let mut request = json!({ "lines": lines, "when_short": self.one(&["reject", "partial", "backorder"]) });
        if self.chance(60) && request["when_short"] != "backorder" {
            request["hold_seconds"] = json!(1 + self.below(2));
        }
        if self.chance(30) {
            request["priority"] = json!(self.below(5));
        }
        if self.chance(20) {
            request["by"] = json!(self.day());
        } else if self.chance(10) {
            request["not_before"] = json!(self.day());
        }
        match self.below(10) {
            0 | 1 => request["split"] = json!(false),
            2 | 3 => request["min_split"] = json!(1 + self.below(5)),
            4 => request["split"] = json!("locations"),
            5 => (request["split"], request["min_split"]) = (json!("locations"), json!(1 + self.below(5))),
            _ => {}
        }
        if self.chance(30) {
            let accepted =
                [json!(["default"]), json!(["south", "north", "default"]), json!(["moon", "default", "north"])];
            request["locations"] = self.one(&accepted);
        }
        request
    }

    /// What is kept, and what is little, at some locations.
    fn levels(&mut self) -> Value {
        let mut levels = json!({});
        for location in ["default", "north", "moon"] {
            match self.below(3) {
                0 => levels[location] = json!({"safety_stock": self.below(10)}),
                1 => levels[location] = json!({"safety_stock": self.below(3), "low_stock": self.below(20)}),
                _ => {}
            }
        }
        levels
    }

    /// Units of a batch that go to another location.
    fn transfer(&mut self) -> Value {
        let (from, reference) = (self.reference(), format!("b{}", self.asked / 8 + 2 + self.below(4)));
        let to = self.location_of(&reference);
        json!({"sku": self.sku(), "from": from, "qty": 1 + self.below(6), "to": to, "ref": reference, "eta": self.day()})
    }

    /// The same of the warehouse floor.
    fn question_of_the_floor(&mut self) -> (&'static str, Method, String, Option<Value>) {
        let (order, batch, sku) = (self.order(), self.batch(), format!("S{}", self.number() % 20));
        let post = |name, path: String, body| (name, Method::POST, path, Some(body));
        match self.below(11) {
            0 | 1 => post("pick", format!("{order}/pick"), json!({})),
            2 => post("unpick", format!("{order}/unpick"), json!({})),
            3 | 4 => post("ship", format!("{order}/shipments"), json!({})),
            5 => {
                let line = json!({"sku": sku, "qty": 1 + self.below(3), "batch": self.reference()});
                post("ship", format!("{order}/shipments"), json!({"lines": [line]}))
            }
            6 => {
                let to = self.one(&["quarantine", "restock", "scrap"]);
                let line = json!({"sku": sku, "qty": 1, "to": to});
                post("ship", format!("{order}/returns"), json!({"lines": [line]}))
            }
            7 => post("quarantine", format!("{batch}/quarantine"), json!({"qty": 1 + self.below(5)})),
            8 => post("quarantine", format!("{batch}/release"), json!({})),
            9 => post("transfer", "/v1/transfers".into(), self.transfer()),
            _ => {
                let kind = self.one(&["damaged", "found", "recount"]);
                let found = json!({"kind": kind, "qty": 1 + self.below(40), "reason": "counted"});
                post("adjust", format!("{batch}/adjustments"), found)
            }
        }
    }

    /// What a client asks next, by name.
    fn question(&mut self) -> (&'static str, Method, String, Option<Value>) {
        self.asked += 1;
        let number = self.number();
        match self.below(50) {
            0..=7 => ("order", Method::PUT, format!("/v1/orders/o{number}"), Some(self.request(number))),
            8 => ("quote", Method::POST, "/v1/quotes".into(), Some(self.request(number))),
            9 | 10 => ("confirm", Method::POST, format!("{}/confirm", self.order()), None),
            11 | 12 => {
                let seconds = json!({"hold_seconds": 1 + self.below(2)});
                ("extend", Method::POST, format!("{}/extend", self.order()), Some(seconds))
            }
            13 | 14 => {
                let mut change = json!({"when_short": self.one(&["reject", "partial", "backorder"])});
                match self.below(4) {
                    0 => change["priority"] = json!(self.below(5)),
                    1 => change["by"] = json!(self.day()),
                    _ => change["qty"] = json!(1 + self.below(12)),
                }
                ("change", Method::PATCH, self.line(), Some(change))
            }
            15 | 16 => ("cancel line", Method::DELETE, self.line(), None),
            17 => ("cancel order", Method::DELETE, self.order(), None),
            18..=21 => {
                let (mut batch, path) = (json!({"qty": self.below(60)}), self.batch());
                if self.chance(70) {
                    batch["location"] = json!(self.location_of(&path));
                }
                match self.below(4) {
                    0 | 1 => batch["eta"] = json!(self.day()),
                    2 => batch["eta"] = Value::Null,
                    _ => {}
                }
                ("declare", Method::PUT, path, Some(batch))
            }
            22 | 23 => {
                let receipt = json!({"qty": 1 + self.below(40), "rest": self.one(&["keep", "cancel"])});
                ("receive", Method::POST, format!("{}/receipts", self.batch()), Some(receipt))
            }
            24 => ("cancel batch", Method::DELETE, self.batch(), None),
            25 => {
                let settings = json!({
                    "queue_cap": self.one(&[Value::Null, json!(50)]),
                    "auto_improve": self.chance(50),
                    "strategy": self.one(&["earliest", "fefo", "fifo", "fewest_splits", "location_priority"]),
                    "overdue_days": self.one(&[Value::Null, json!(0), json!(3)]),
                    "locations": self.levels(),
                });
                ("settings", Method::PUT, format!("/v1/products/{}", self.sku()), Some(settings))
            }
            26 => ("improve", Method::POST, format!("/v1/products/{}/improve", self.sku()), None),
            27 => {
                let batch =
                    json!({"ref": self.reference(), "sku": self.sku(), "qty": self.below(40), "eta": self.day()});
                ("add batch", Method::POST, "/add_batch".into(), Some(batch))
            }
            28 => {
                let line = json!({"orderid": format!("o{number}"), "sku": self.sku(), "qty": 1 + self.below(12)});
                ("allocate", Method::POST, "/allocate".into(), Some(line))
            }
            29..=41 => self.question_of_the_floor(),
            _ => {
                let sku = self.sku();
                let paths = [
                    self.order(),
                    self.order().replace("/v1/orders", "/allocations"),
                    format!("/v1/products/{sku}"),
                    format!("/v1/products/{sku}/queue"),
                    format!("/v1/products/{sku}/lines?state=held"),
                    format!("/v1/availability/{sku}?qty=20"),
                    format!("/v1/availability/{sku}?qty=20&location=north"),
                    "/v1/products".into(),
                    "/v1/backlog".into(),
                    "/v1/events?limit=10".into(),
                ];
                ("read", Method::GET, self.one(&paths), None)
            }
        }
    }
}

/// Asks one thing after another until the time is up, and counts by name what was done and what was refused.
async fn keep_asking(service: Arc<Service>, mut dice: Dice, time: Duration) -> BTreeMap<&'static str, [u64; 2]> {
    let (clock, mut counts) = (SystemClock::new(), BTreeMap::new());
    // On a slow machine a little longer, so that everything is asked for now and then.
    while clock.monotonic() < time || dice.asked < 40 {
        let (name, method, path, body) = dice.question();
        let asked = now();
        let keyed = ["/shipments", "/returns", "/adjustments", "/transfers"].iter().any(|end| path.ends_with(end));
        let answer: Answer = match &body {
            Some(body) if keyed => service.post_new(&path, body.clone()).await,
            _ => service.send(method.clone(), &path, body.clone()).await,
        };
        let holds = answer.text.split("\"held_until\":\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        for until in holds {
            assert!(instant(until) > asked, "at {asked} {method} {path} told of a hold that had ended: {answer:?}");
        }
        let status = answer.status.as_u16();
        // Refusals are part of it: of what is unknown, short, or in no state for it.
        let expected = [200, 201, 202, 404, 409].contains(&status) || (status == 400 && !path.starts_with("/v1"));
        assert!(expected, "{method} {path} {body:?}: {answer:?}");
        let [done, refused] = counts.entry(name).or_insert([0, 0]);
        *(if answer.status.is_success() { done } else { refused }) += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_many_clients_ask_of_two_copies_the_books_balance_and_every_hold_ends() {
    let store = Store::new(On::Postgres).await;
    let services = [Arc::new(store.serve().await), Arc::new(store.serve().await)];
    for n in 0..20 {
        services[0].batch(&format!("S{n}"), "b0", json!({"qty": 40})).await;
    }
    let mut clients = JoinSet::new();
    for client in 0..64 {
        clients.spawn(keep_asking(services[client % 2].clone(), Dice::of(client), soak()));
    }
    let mut counts: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    while let Some(of_client) = clients.join_next().await {
        for (name, [done, refused]) in of_client.unwrap() {
            let sum = counts.entry(name).or_default();
            *sum = [sum[0] + done, sum[1] + refused];
        }
    }
    println!("done and refused: {counts:?}");
    assert!(counts.values().all(|[done, _]| *done > 0), "{counts:?}");

    // Nobody asks any more, and every hold was for two seconds at most.
    allocation_testing::eventually("the end of every hold", async || {
        let said = store.assert_balanced().await;
        said.contains(" 0 held").then_some(())
    })
    .await;
    for service in &services {
        service.assert_nobody_waits_in_vain().await;
        for product in service.products().await {
            assert_eq!(product["held"], 0, "{product}");
        }
    }
}
