//! The primary is lost under load, and its standby takes its place: no promise that was answered is lost, what had no answer is done once by asking
//! again, and nothing is ever told from a standby.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use allocation_adapters::system::SystemClock;
use allocation_adapters::tls;
use allocation_service_layer::ports::clock::Clock;
use allocation_testing::eventually;
use allocation_testing::program::{Program, command};
use allocation_testing::servers::{Patroni, PostgresServer};
use futures_util::future::{join, join_all};
use reqwest::Client;
use serde_json::{Value, json};

use crate::chaos;
use crate::commands::{BATCH, Command, UNITS, numbers_of, products};

const PROGRAM: &str = env!("CARGO_BIN_EXE_allocation");
/// Who asks, each for one thing at a time.
const CLIENTS: usize = 8;
/// How much is answered between two losses at least.
const ANSWERS: usize = 300;
/// How many primaries are lost under Patroni.
const PATRONI: usize = 5;
/// What is read while there is no primary.
const READS: usize = 8;

/// Clients of a program.
struct Clients {
    client: Client,
    program: Program,
    /// How many commands were begun, answered, and how often one had no answer.
    begun: AtomicUsize,
    answered: AtomicUsize,
    unanswered: AtomicUsize,
    over: AtomicBool,
}

impl Clients {
    /// Asks for one thing after the other, for each until it is answered.
    async fn ask(&self) {
        while !self.over.load(Ordering::SeqCst) {
            let command = Command::nth(self.begun.fetch_add(1, Ordering::SeqCst));
            eventually("an answer", async || {
                let answered = command.ask(&self.client, &self.program).await;
                if !answered {
                    self.unanswered.fetch_add(1, Ordering::SeqCst);
                }
                answered.then_some(())
            })
            .await;
            self.answered.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits for so many more answers.
    async fn answers(&self, more: usize) {
        let wanted = self.answered.load(Ordering::SeqCst) + more;
        eventually("answers", async || (self.answered.load(Ordering::SeqCst) >= wanted).then_some(())).await;
    }

    /// A standby tells nothing, however often it is asked.
    async fn are_told_nothing(&self, reads: usize) {
        for sku in products().take(reads) {
            let (status, told) = self.get(&format!("/v1/products/{sku}")).await;
            assert_eq!(status, 503, "told by a standby: {told}");
        }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.client.get(self.program.url(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// How often each command has had its effect, as the feed tells it once it has all of it.
    async fn effects(&self) -> BTreeMap<String, usize> {
        let (mut effects, mut seen, mut after) = (BTreeMap::new(), 0, 0);
        // Each command is an event, and each product was a batch before.
        let all = self.answered.load(Ordering::SeqCst) + products().count();
        while seen < all {
            let page = eventually("more of the feed", async || {
                let (_, page) = self.get(&format!("/v1/events?after={after}&limit=1000")).await;
                page["events"].as_array().is_some_and(|events| !events.is_empty()).then_some(page)
            })
            .await;
            for placed in page["events"].as_array().unwrap() {
                seen += 1;
                if let Some(command) = Command::behind(&placed["event"]) {
                    *effects.entry(command).or_default() += 1;
                }
            }
            after = page["next"].as_u64().unwrap();
        }
        effects
    }
}

/// What a load came to.
struct Load {
    commands: usize,
    unanswered: usize,
}

/// Serves from the database at this URL, has clients ask while something befalls its servers, and looks at what is there then. What is given back by `lose`
/// lives until that is done.
async fn keeps_its_promises<T>(url: &str, lose: impl AsyncFnOnce(&Clients) -> T) -> (T, Load) {
    let environment = [("DATABASE_URL", url)];
    let program = Program::serve(Path::new(PROGRAM), &environment).await;
    tls::choose_ring();
    let client = Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
    for sku in products() {
        let batch =
            client.put(program.url(&format!("/v1/products/{sku}/batches/{BATCH}"))).json(&json!({"qty": UNITS}));
        assert_eq!(batch.send().await.unwrap().status().as_u16(), 201);
    }
    let clients = Clients {
        client,
        program,
        begun: AtomicUsize::new(0),
        answered: AtomicUsize::new(0),
        unanswered: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    };
    let losing = async {
        let servers = lose(&clients).await;
        clients.answers(ANSWERS).await;
        clients.over.store(true, Ordering::SeqCst);
        servers
    };
    let (servers, _) = join(losing, join_all((0..CLIENTS).map(|_| clients.ask()))).await;

    let commands = clients.answered.load(Ordering::SeqCst);
    for sku in products() {
        let (_, product) = clients.get(&format!("/v1/products/{sku}")).await;
        let found = [&product["allocated"], &product["on_hand"], &product["available"]];
        assert_eq!(found, numbers_of(&sku, commands).map(|units| json!(units)).each_ref(), "{product}");
    }
    let effects = clients.effects().await;
    for nth in 0..commands {
        let id = Command::nth(nth).id();
        assert_eq!(effects.get(&id), Some(&1), "{id}");
    }
    assert_eq!(effects.len(), commands);
    let verified = command(Path::new(PROGRAM), &environment, &["verify"]).output().await.unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    (servers, Load { commands, unanswered: clients.unanswered.load(Ordering::SeqCst) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_takes_over_has_every_promise_that_was_answered() {
    let promotions = chaos();
    let mut primary = PostgresServer::start_primary();
    let url = primary.database().await;
    let Some(mut standby) = primary.standby(None).await else {
        println!("skipped: needs PostgreSQL's programs");
        return;
    };
    let database = url.rsplit_once('/').unwrap().1;
    let url = format!("postgres://allocation@127.0.0.1:{},127.0.0.1:{}/{database}", primary.port(), standby.port());
    let lose = async |clients: &Clients| {
        let mut longest = Duration::ZERO;
        for _ in 0..promotions {
            clients.answers(ANSWERS).await;
            primary.kill();
            clients.are_told_nothing(READS).await;
            let promoting = SystemClock::default();
            standby.promote().await;
            clients.answers(1).await;
            longest = longest.max(promoting.monotonic());
            // What is left of the former primary is not used again.
            let next = standby.standby(Some(primary.port())).await.unwrap();
            (primary, standby) = (standby, next);
        }
        (longest, (primary, standby))
    };
    let ((longest, _servers), Load { commands, unanswered }) = keeps_its_promises(&url, lose).await;
    println!(
        "{promotions} promotions under {commands} commands; {unanswered} times one had no answer and was asked for again; the first answer came {longest:?} \
         after a promotion was begun at the latest; nothing that was answered is lost, nothing acted twice, the books balance"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_patroni_promotes_has_every_promise_that_was_answered() {
    // Patroni waits for 20 seconds before it takes a primary for lost.
    if chaos() == 1 {
        println!("skipped: it takes minutes, and `make chaos` does it");
        return;
    }
    let Some(mut cluster) = Patroni::start().await else {
        println!("skipped: needs Patroni");
        return;
    };
    let url = cluster.database().await;
    let lose = async |clients: &Clients| {
        let mut longest = Duration::ZERO;
        for _ in 0..PATRONI {
            clients.answers(ANSWERS).await;
            let lost = cluster.kill_primary().await;
            let since = SystemClock::default();
            // Once: a read waits for seconds, and before the last of many there would be a primary again.
            clients.are_told_nothing(1).await;
            cluster.has_promoted_other(lost).await;
            clients.answers(1).await;
            longest = longest.max(since.monotonic());
            cluster.bring_back(lost).await;
        }
        (longest, cluster)
    };
    let ((longest, _cluster), Load { commands, unanswered }) = keeps_its_promises(&url, lose).await;
    println!(
        "{PATRONI} primaries lost under Patroni and {commands} commands; {unanswered} times one had no answer and was asked for again; the first answer came \
         {longest:?} after a loss at the latest; nothing that was answered is lost, nothing acted twice, the books balance"
    );
}
