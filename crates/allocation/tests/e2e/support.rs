//! The program with a store of its own, and the words that tests use.

use allocation_adapters::system::SystemClock;
use allocation_adapters::tls;
use allocation_service_layer::ports::clock::Clock;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use allocation_service_layer::wire;
use allocation_testing::program::{Program, command};
use allocation_testing::servers::{postgres_url, tool};
use futures_util::StreamExt;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_allocation");

/// Which store a test runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum On {
    Sqlite,
    Postgres,
}

/// Makes a test of an async function for each store.
macro_rules! on_both_stores {
    ($($(#[$attribute:meta])* $test:ident),* $(,)?) => {
        mod sqlite {
            $($(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::support::On::Sqlite).await;
            })*
        }
        mod postgres {
            $($(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::support::On::Postgres).await;
            })*
        }
    };
}
pub(crate) use on_both_stores;

/// A store, and what else the program is told.
#[derive(Clone)]
pub(crate) struct Store {
    environment: Vec<(String, String)>,
    folder: Arc<TempDir>,
}

impl Store {
    /// An empty one.
    pub(crate) async fn new(on: On) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = match on {
            On::Sqlite => format!("sqlite:{}", folder.path().join("allocation.db").display()),
            On::Postgres => postgres_url().await,
        };
        Self::at(url, folder)
    }

    /// One that is there.
    pub(crate) fn at(url: String, folder: TempDir) -> Self {
        Self { environment: vec![("DATABASE_URL".into(), url)], folder: Arc::new(folder) }
    }

    /// With a variable set.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub(crate) fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// Serves it.
    pub(crate) async fn serve(&self) -> Service {
        let program = Program::serve(Path::new(PROGRAM), &self.environment()).await;
        Service { program, client: client(), _folder: self.folder.clone() }
    }

    /// Runs another command of the program to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        command(Path::new(PROGRAM), &self.environment(), arguments).output().await.unwrap()
    }

    /// Runs an import with this text as standard input: exit status, what it said, what it complained of.
    pub(crate) async fn import(&self, what: &[&str], text: &str) -> (Option<i32>, String, String) {
        let arguments = [&["import"], what, &["-"]].concat();
        let mut import = command(Path::new(PROGRAM), &self.environment(), &arguments);
        import.env("LOG", "warn").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = import.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Who refuses its arguments reads no input.
        let _ = stdin.write_all(text.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Fails the test unless each damage to the tables is named by `verify`, and mended by `repair` so that what is read is as before.
    pub(crate) async fn assert_mended<T: PartialEq + std::fmt::Debug>(
        &self,
        damages: &[(&str, &str)],
        mut read: impl AsyncFnMut() -> T,
    ) {
        let whole = read().await;
        for (damage, named) in damages {
            if !self.tamper(damage).await {
                return;
            }
            let found = self.run(&["verify"]).await;
            let said = String::from_utf8_lossy(&found.stdout);
            assert!(!found.status.success() && said.contains(named), "{damage}: {said}");
            assert!(self.run(&["repair", "--apply"]).await.status.success(), "{damage}");
            self.assert_balanced().await;
            assert_eq!(read().await, whole, "{damage}");
        }
    }

    /// Changes tables behind the program's back. `false`: this machine has no tool for it.
    #[must_use]
    pub(crate) async fn tamper(&self, sql: &str) -> bool {
        let url = &self.environment[0].1;
        let Some(file) = url.strip_prefix("sqlite:") else {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute(sql).await.unwrap();
            return true;
        };
        let Some(sqlite) = tool("sqlite3", "sqlite3") else {
            println!("skipped: needs sqlite3");
            return false;
        };
        let done = tokio::process::Command::new(sqlite).args(["-bail", "-cmd", ".timeout 10000", file, sql]).output();
        let done = done.await.unwrap();
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        true
    }

    /// Fails the test when the books do not balance.
    pub(crate) async fn assert_balanced(&self) -> String {
        let output = self.run(&["verify"]).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

/// A client of HTTP.
pub(crate) fn client() -> Client {
    tls::choose_ring();
    Client::new()
}

/// A running service and a client of it.
pub(crate) struct Service {
    pub(crate) program: Program,
    pub(crate) client: Client,
    /// Stays for as long as it is served from.
    _folder: Arc<TempDir>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// Its JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails the test on any other status.
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }
}

impl Service {
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.client.request(method, self.program.url(path));
        if let Some(body) = body {
            request = request.json(&body);
        }
        Self::answer(request).await
    }

    pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// Sends a request that acts once under this key.
    pub(crate) async fn post_once(&self, path: &str, key: &str, body: Value) -> Answer {
        let request = self.client.post(self.program.url(path)).header("Idempotency-Key", key);
        Self::answer(request.json(&body)).await
    }

    /// The same under a key of its own.
    pub(crate) async fn post_new(&self, path: &str, body: Value) -> Answer {
        self.post_once(path, &new_key(), body).await
    }

    /// Declares a batch that must be taken.
    pub(crate) async fn batch(&self, sku: &str, reference: &str, body: Value) -> Value {
        let answer = self.put(&format!("/v1/products/{sku}/batches/{reference}"), body).await;
        assert!(answer.status.is_success(), "{answer:?}");
        answer.json()
    }

    /// Asks for lines.
    pub(crate) async fn order(&self, order_id: &str, lines: &[(&str, u64)]) -> Answer {
        let lines: Vec<Value> = lines.iter().map(|(sku, qty)| serde_json::json!({"sku": sku, "qty": qty})).collect();
        self.put(&format!("/v1/orders/{order_id}"), serde_json::json!({ "lines": lines })).await
    }

    /// Asks for so many lamps, and says what else `with` does.
    pub(crate) async fn ask(&self, order_id: &str, qty: u64, with: Value) -> Answer {
        let mut body = with;
        body["lines"] = json!([{"sku": "LAMP", "qty": qty}]);
        self.put(&format!("/v1/orders/{order_id}"), body).await
    }

    /// Asks for so many lamps, which wait where there are none.
    pub(crate) async fn queue_up(&self, order_id: &str, qty: u64) {
        self.ask(order_id, qty, json!({"when_short": "backorder"})).await.expect(201);
    }

    /// The lines of an order.
    pub(crate) async fn lines(&self, order_id: &str) -> Vec<Value> {
        let order = self.get(&format!("/v1/orders/{order_id}")).await.expect(200).json();
        order["lines"].as_array().unwrap().clone()
    }

    /// What has become of an order's only line.
    pub(crate) async fn fate(&self, order_id: &str) -> String {
        let lines = self.lines(order_id).await;
        assert_eq!(lines.len(), 1, "{lines:?}");
        fate(&lines[0])
    }

    /// What has become of an order's only line for a product.
    pub(crate) async fn fate_of(&self, order_id: &str, sku: &str) -> String {
        let lines = self.lines(order_id).await;
        let of_sku: Vec<_> = lines.iter().filter(|line| line["sku"] == sku).collect();
        assert_eq!(of_sku.len(), 1, "{lines:?}");
        fate(of_sku[0])
    }

    /// A product as it is now.
    pub(crate) async fn product(&self, sku: &str) -> Value {
        self.get(&format!("/v1/products/{sku}")).await.expect(200).json()
    }

    /// How often a product has changed.
    pub(crate) async fn version(&self, sku: &str) -> u64 {
        self.product(sku).await["version"].as_u64().unwrap()
    }

    /// Who waits for a product: order and units, first in the queue first.
    pub(crate) async fn queue(&self, sku: &str) -> Vec<String> {
        let page = self.get(&format!("/v1/products/{sku}/queue?limit=1000")).await.expect(200).json();
        let waiting = page["waiting"].as_array().unwrap();
        let shown = |units: &Value| format!("{} {}", units["line"]["order_id"].as_str().unwrap(), units["qty"]);
        waiting.iter().map(shown).collect()
    }

    /// What has happened to a product after its event number `after`, in short.
    pub(crate) async fn history(&self, sku: &str, after: u64) -> Vec<String> {
        self.events_of(sku, after).await.iter().map(event).collect()
    }

    /// What has happened to a product after its event number `after`, once all of it is in the feed.
    pub(crate) async fn events_of(&self, sku: &str, after: u64) -> Vec<Value> {
        let version = self.version(sku).await;
        allocation_testing::eventually("all of it in the feed", async || {
            let page = self.get("/v1/events?limit=1000").await.expect(200).json();
            let events = page["events"].as_array().unwrap().iter().map(|event| event["event"].clone());
            let events: Vec<Value> = events.filter(|event| event["subject"] == sku).collect();
            (events.len() as u64 >= version).then(|| events.into_iter().skip(usize::try_from(after).unwrap()).collect())
        })
        .await
    }

    /// Every product.
    pub(crate) async fn products(&self) -> Vec<Value> {
        let (mut products, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("/v1/products?limit=1000&after={after}")).await.expect(200).json();
            products.extend(page["products"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut after),
                None => return products,
            }
        }
    }

    /// Every line of a product.
    pub(crate) async fn lines_of_product(&self, sku: &str) -> Vec<Value> {
        let (mut lines, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/products/{sku}/lines?limit=1000&after={after}");
            let page = self.get(&path).await.expect(200).json();
            lines.extend(page["lines"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut after),
                None => return lines,
            }
        }
    }

    /// Fails the test when anybody waits who could have units that are free (rule 10). Nothing else may be going on.
    pub(crate) async fn assert_nobody_waits_in_vain(&self) {
        let products = self.products().await;
        let waiting = products.iter().filter(|product| product["backordered"] != 0 && product["promisable"] != 0);
        at_once(waiting, async |product| {
            let path = format!("/v1/products/{}/queue?limit=1000", product["sku"].as_str().unwrap());
            let queue = self.get(&path).await.expect(200).json();
            assert_eq!(queue["next"], Value::Null, "more wait than a page has");
            for units in queue["waiting"].as_array().unwrap() {
                assert!(!could_take(units, product), "{units} waits beside what is free: {product}");
            }
        })
        .await;
    }

    /// Everything in the feed, once it has as many events as expected.
    pub(crate) async fn feed(&self, expected: usize) -> Vec<Value> {
        allocation_testing::eventually("the feed", async || {
            let page = self.get("/v1/events?limit=1000").await.expect(200).json();
            let events = page["events"].as_array().unwrap().clone();
            (events.len() >= expected).then_some(events)
        })
        .await
    }

    /// The value of a metric, with its labels as they are printed. What has labels is not there before it was counted once.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").await.expect(200).text;
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.or(name.contains('{').then_some(0)).unwrap_or_else(|| panic!("{name} in {text}"))
    }
}

/// A store with these batches of lamps, and a service of it: reference, units, and when they are expected (empty: on hand).
pub(crate) async fn lamps(on: On, batches: &[(&str, u64, &str)]) -> (Store, Service) {
    let store = Store::new(on).await;
    let service = store.serve().await;
    for (reference, qty, eta) in batches {
        let eta = (!eta.is_empty()).then_some(eta);
        service.batch("LAMP", reference, json!({"qty": qty, "eta": eta})).await;
    }
    (store, service)
}

impl Service {
    /// Declares lamps at a location: on hand, or when they are expected.
    pub(crate) async fn lamps_at(&self, location: &str, reference: &str, qty: u64, eta: &str) -> Value {
        let eta = (!eta.is_empty()).then_some(eta);
        self.batch("LAMP", reference, json!({"qty": qty, "eta": eta, "location": location})).await
    }

    /// Sets what is to be set of lamps.
    pub(crate) async fn set(&self, settings: Value) -> Value {
        let answer = self.put("/v1/products/LAMP", settings).await;
        assert!(answer.status.is_success(), "{answer:?}");
        answer.json()
    }
}

/// Fails the test unless it was refused by this name.
pub(crate) fn refused(answer: Answer, name: &str) {
    let status = if ["unknown-sku", "key-reused", "invalid"].contains(&name) { 422 } else { 409 };
    let problem = answer.expect(if name == "not-found" { 404 } else { status }).json();
    assert_eq!(problem["type"], format!("urn:allocation:problem:{name}"), "{problem}");
}

/// Fields that an answer complains of.
pub(crate) fn faulty(answer: Answer) -> Vec<String> {
    let problem = answer.expect(422).json();
    let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("{problem}"));
    errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
}

/// A key that no other request has.
pub(crate) fn new_key() -> String {
    static KEYS: AtomicU64 = AtomicU64::new(0);
    format!("key {}", KEYS.fetch_add(1, Ordering::Relaxed))
}

/// Whether waiting units could have any of what is free.
fn could_take(units: &Value, product: &Value) -> bool {
    let (line, qty) = (&units["line"], units["qty"].as_u64().unwrap());
    // Whole, or in parts none of which is too small.
    let least = if line["split"] == false { qty } else { qty.min(line["min_split"].as_u64().unwrap()) };
    // Ready when it has arrived and is wanted; a `by` that was moved before `not_before` is kept by nothing.
    let not_before = line["not_before"].as_str().unwrap_or_default();
    let in_time = |batch: &Value| line["by"].as_str().is_none_or(|by| arrival(batch).as_str().max(not_before) <= by);
    let accepted = line["locations"].as_array();
    let is_accepted = |batch: &Value| accepted.is_none_or(|accepted| accepted.contains(&batch["location"]));
    // The parts of a line that may not go over locations are where the first of them is.
    let first = line["placements"].get(0).filter(|_| line["split"] == true);
    let may_join = |batch: &Value| first.is_none_or(|first| first["location"] == batch["location"]);
    let batches = product["batches"].as_array().unwrap();
    batches.iter().any(|batch| {
        let may_have = in_time(batch) && is_accepted(batch) && may_join(batch);
        may_have && promisable(batch, product) >= least
    })
}

/// When a batch is ready to ship; dates as texts are in order. What is overdue comes tomorrow at the earliest.
fn arrival(batch: &Value) -> String {
    batch["eta"].as_str().map_or_else(|| today(0), |eta| eta.to_owned().max(today(1)))
}

/// Units of a batch that can be promised: what of the free ones safety stock leaves on the day it arrives.
fn promisable(batch: &Value, product: &Value) -> u64 {
    let free = |batch: &Value| batch["free"].as_u64().unwrap();
    let is_overdue = |batch: &Value| {
        let last = product["overdue_days"].as_u64().zip(batch["eta"].as_str());
        let last = last.and_then(|(days, eta)| later_date(eta, usize::try_from(days).unwrap()));
        last.is_some_and(|last| last < today(0))
    };
    if is_overdue(batch) {
        return 0;
    }
    let by = arrival(batch);
    let counts = |other: &&Value| {
        let usable = other["expires_on"].as_str().is_none_or(|last| by.as_str() <= last);
        other["location"] == batch["location"] && usable && arrival(other) <= by && !is_overdue(other)
    };
    let there: u64 = product["batches"].as_array().unwrap().iter().filter(counts).map(free).sum();
    let kept = product["locations"][batch["location"].as_str().unwrap()]["safety_stock"].as_u64().unwrap();
    free(batch).min(there.saturating_sub(kept))
}

/// The day it is, or one so many days later.
pub(crate) fn today(later: usize) -> String {
    let date = later_date(&wire::instant_text(SystemClock::new().now())[..10], later);
    date.expect("today is a date")
}

/// The day it is in a time zone, or so many days earlier.
pub(crate) fn day_in(time_zone: &str, earlier: i64) -> String {
    let now = jiff::Timestamp::now().in_tz(time_zone).unwrap();
    now.date().checked_sub(jiff::ToSpan::days(earlier)).unwrap().to_string()
}

/// A date so many days later.
pub(crate) fn later_date(date: &str, days: usize) -> Option<String> {
    (0..days).try_fold(wire::parse_date(date)?, |date, _| date.next_day()).map(wire::date_text)
}

/// Handles all of these, as many at a time as keep the program busy.
pub(crate) async fn at_once<T>(all: impl IntoIterator<Item = T>, handle: impl AsyncFn(T)) {
    futures_util::stream::iter(all).for_each_concurrent(32, |one| handle(one)).await;
}

/// A line in short: its state, and where all of its units are, as in `backordered: b 3 (1 locked), waiting 2`.
pub(crate) fn fate(line: &Value) -> String {
    let placement = |at: &Value| {
        let locked = if at["locked"] == 0 { String::new() } else { format!(" ({} locked)", at["locked"]) };
        format!("{} {}{locked}", at["batch"].as_str().unwrap(), at["qty"])
    };
    let mut units: Vec<String> = line["placements"].as_array().unwrap().iter().map(placement).collect();
    let others = [
        ("backordered", "waiting"),
        ("dropped", "dropped"),
        ("cancelled", "cancelled"),
        ("lapsed", "lapsed"),
        ("shipped", "shipped"),
        ("returned", "returned"),
    ];
    for (field, name) in others {
        if line[field] != 0 {
            units.push(format!("{name} {}", line[field]));
        }
    }
    format!("{}: {}", line["state"].as_str().unwrap(), units.join(", "))
}

/// Who lost a place, in short.
pub(crate) fn displaced(answer: &Value) -> Vec<String> {
    let moved = |to: &Value| format!(" {} {}", to["batch"].as_str().unwrap(), to["qty"]);
    let lines = answer["displaced"].as_array().unwrap();
    assert_eq!(answer["displaced_total"], lines.len());
    let told = |line: &Value| {
        let to: String = line["to"].as_array().unwrap().iter().map(moved).collect();
        let waiting =
            if line["backordered"] == 0 { String::new() } else { format!(" waiting {}", line["backordered"]) };
        let lapsed = if line["lapsed"] == true { " lapsed" } else { "" };
        format!("{} {}:{to}{waiting}{lapsed}", line["order_id"].as_str().unwrap(), line["qty"])
    };
    lines.iter().map(told).collect()
}

/// An event in short: its name, and what it says of lines, units and batches, as in `line_allocated o1 3 b`.
fn event(event: &Value) -> String {
    let name = event["type"].as_str().unwrap().trim_start_matches("allocation.").trim_end_matches(".v1");
    let data = &event["data"];
    let mut said = vec![name.to_owned()];
    let fields = [
        "order_id",
        "line",
        "requested",
        "qty",
        "ref",
        "location",
        "kind",
        "from",
        "to",
        "rest",
        "reason",
        "asked",
        "available",
    ];
    for field in fields {
        match &data[field] {
            Value::String(one) if field == "line" && one == "1" => {}
            Value::String(usual) if field == "location" && usual == "default" => {}
            Value::String(text) => said.push(text.clone()),
            Value::Number(number) => said.push(number.to_string()),
            _ => {}
        }
    }
    if data["displaced"] == true {
        said.push("displaced".into());
    }
    said.join(" ")
}

/// The instant it is, as a text that compares like the instant.
pub(crate) fn now() -> String {
    instant(&wire::instant_text(SystemClock::new().now()))
}

/// An instant as the program writes it, as a text that compares like the instant.
pub(crate) fn instant(text: &str) -> String {
    let text = text.trim_end_matches('Z');
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{seconds}.{fraction:0<9}")
}

/// Asks again and again, and gives the first answer to a question put at this instant or later.
pub(crate) async fn from_then_on<T>(instant: &str, mut ask: impl AsyncFnMut() -> T) -> T {
    allocation_testing::eventually("the instant", async || {
        let late = now().as_str() >= instant;
        let answer = ask().await;
        late.then_some(answer)
    })
    .await
}
