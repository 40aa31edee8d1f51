//! A store, a broker, and the program between them, which has many lives.

mod occasions;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use allocation_adapters::tls;
use allocation_service_layer::failpoints::Failpoint;
use allocation_testing::brokers::{Broker, Told};
use allocation_testing::eventually;
use allocation_testing::program::{Ended, Program, command};
use allocation_testing::servers::{PostgresServer, SmtpCatcher};
use axum::Router;
use axum::routing::post;
use futures_util::StreamExt;
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::On;
use crate::commands::{BATCH, Command, UNITS, numbers_of, products, unusable};
use crate::tally::Tally;
use occasions::Occasions;

const PROGRAM: &str = env!("CARGO_BIN_EXE_allocation");
/// Messages that wait for a program when its life begins.
const BURST: usize = 48;
/// Commands of each kind that a program gets at a time.
const PORTION: usize = 8;
/// Requests at a time.
const CLIENTS: usize = 16;
/// How long a program may live that is to die.
const LIFE: Duration = Duration::from_mins(5);
/// How long everything may take to arrive when nothing dies any more.
const PATIENCE: Duration = Duration::from_mins(5);

enum Database {
    Sqlite(PathBuf),
    Postgres(PostgresServer, String),
}

/// Those who ask over HTTP.
struct People {
    client: Client,
    /// What they have no answer to, and ask again.
    unanswered: Vec<Command>,
}

impl People {
    /// Ask for these, and for what they have no answer to.
    async fn ask(&mut self, program: &Program, new: Vec<Command>) {
        let wanted = std::mem::take(&mut self.unanswered).into_iter().chain(new);
        let client = &self.client;
        let asked = futures_util::stream::iter(wanted).map(|one| async move { (one, one.ask(client, program).await) });
        let asked: Vec<_> = asked.buffer_unordered(CLIENTS).collect().await;
        self.unanswered = asked.into_iter().filter_map(|(one, answered)| (!answered).then_some(one)).collect();
    }
}

pub(crate) struct World {
    database: Database,
    broker: Box<dyn Broker>,
    mail: SmtpCatcher,
    environment: Vec<(String, String)>,
    people: People,
    /// What a webhook has received and nobody has looked at.
    received: Arc<Mutex<Vec<String>>>,
    /// What the webhook of one product, and the durable consumer of the broker, have been told.
    hooked: Told,
    told: Told,
    /// How often each command has had its effect.
    effects: BTreeMap<String, usize>,
    lives: usize,
    occasions: Occasions,
    tally: Tally,
    _folder: TempDir,
}

impl World {
    /// A world in which nothing has happened but that there is stock.
    pub(crate) async fn new(on: On, broker: Box<dyn Broker>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (database, url) = match on {
            On::Sqlite => {
                let file = folder.path().join("allocation.db");
                let url = format!("sqlite:{}", file.display());
                (Database::Sqlite(file), url)
            }
            On::Postgres => {
                let server = PostgresServer::start_durable();
                let url = server.database().await;
                (Database::Postgres(server, url.clone()), url)
            }
        };
        let mut environment = broker.environment();
        let mail = SmtpCatcher::start().await;
        let settings = [
            ("DATABASE_URL", &*url),
            ("SMTP_URL", &*mail.url()),
            ("WEBHOOK_PRIVATE", "on"),
            ("LOG", "info,allocation_entrypoints=debug"),
        ];
        environment.extend(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
        tls::choose_ring();
        let client = Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        let mut world = Self {
            database,
            broker,
            mail,
            environment,
            people: People { client, unanswered: Vec::new() },
            received: Arc::default(),
            hooked: Told::default(),
            told: Told::default(),
            effects: BTreeMap::new(),
            lives: 0,
            occasions: Occasions::default(),
            tally: Tally::default(),
            _folder: folder,
        };
        world.stock_up().await;
        world
    }

    async fn stock_up(&mut self) {
        let program = self.begin(None).await.unwrap();
        for sku in products() {
            let path = format!("/v1/products/{sku}/batches/{BATCH}");
            let batch = self.people.client.put(program.url(&path)).json(&json!({"qty": UNITS}));
            assert_eq!(batch.send().await.unwrap().status().as_u16(), 201);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let received = self.received.clone();
        let receive = async move |body: String| received.lock().unwrap().push(body);
        let router = Router::new().route("/hook", post(receive));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        // One event at a time is on its way to it: it is told of one product, or it would be far behind.
        let hook = json!({"url": url, "skus": [Command::nth(0).sku()], "from": "beginning"});
        let registered = self.people.client.post(program.url("/v1/webhooks")).json(&hook).send().await.unwrap();
        assert_eq!(registered.status().as_u16(), 201);
        self.is_killed(program).await;
    }

    /// A life of the program.
    async fn begin(&mut self, failpoint: Option<String>) -> Result<Program, Ended> {
        self.lives += 1;
        // Waiting for the leases of the dead to run out takes seconds. It is done now and then.
        if !self.lives.is_multiple_of(10) {
            self.take_leases_from_the_dead().await;
        }
        let environment = self.environment();
        let mut serve = command(Path::new(PROGRAM), &environment, &["serve"]);
        serve.env("LISTEN", "127.0.0.1:0").envs(failpoint.map(|failpoint| ("FAILPOINT", failpoint)));
        Program::begin(&mut serve).await
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    async fn take_leases_from_the_dead(&self) {
        let sql = "DELETE FROM leases WHERE task <> 'numbering'";
        match &self.database {
            Database::Sqlite(file) if file.exists() => {
                rusqlite::Connection::open(file).unwrap().execute(sql, ()).unwrap();
            }
            Database::Postgres(_, url) if self.lives > 1 => {
                let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                client.batch_execute(sql).await.unwrap();
            }
            _ => {}
        }
    }

    /// A life has ended.
    fn has_lived(&mut self, ended: &Ended) {
        let received = ended.log.lines().filter(|line| line.contains("received source="));
        let messages = received.filter_map(|line| line.split_once("messages=")?.1.trim().parse::<usize>().ok());
        self.tally.delivered += messages.sum::<usize>();
    }

    async fn is_killed(&mut self, program: Program) {
        let ended = program.kill().await;
        self.tally.kill("no particular step");
        self.has_lived(&ended);
    }

    fn fresh(&mut self, count: usize) -> Vec<Command> {
        let first = self.tally.commands();
        let fresh = (first..first + count).map(Command::nth);
        fresh.collect()
    }

    fn fresh_for_people(&mut self, count: usize) -> Vec<Command> {
        let fresh = self.fresh(count);
        self.tally.by_http += count;
        self.tally.twice_by_http += fresh.iter().filter(|one| one.comes_twice()).count();
        self.tally.unanswered += self.people.unanswered.len();
        fresh
    }

    async fn ask(&mut self, program: &Program, count: usize) {
        let fresh = self.fresh_for_people(count);
        self.people.ask(program, fresh).await;
    }

    /// Sends so many commands as messages, a fifth of them twice, and one that nobody can use.
    async fn send(&mut self, count: usize) {
        let fresh = self.fresh(count);
        self.tally.by_message += count;
        let mut messages: Vec<String> = fresh.iter().map(|one| one.message()).collect();
        let again: Vec<String> = fresh.iter().filter(|one| one.comes_twice()).map(|one| one.message()).collect();
        self.tally.twice_by_message += again.len();
        messages.extend(again);
        messages.push(unusable(self.tally.unusable));
        self.tally.unusable += 1;
        self.give(messages).await;
    }

    /// Gives messages to the broker, again if it may not have them.
    async fn give(&mut self, messages: Vec<String>) {
        eventually("the broker to take messages", async || {
            self.tally.sent += messages.len();
            self.broker.send(&messages).await.then_some(())
        })
        .await;
    }

    /// Has the consumers take what there is for them.
    async fn take(&mut self) {
        for body in self.broker.next().await {
            let Some(event) = self.told.hear(&body) else {
                self.tally.heard_again += 1;
                continue;
            };
            self.tally.heard += 1;
            if let Some(command) = Command::behind(&event) {
                let times = self.effects.entry(command).or_default();
                *times += 1;
                assert_eq!(*times, 1, "it acted twice: {event}");
            }
        }
        for body in std::mem::take(&mut *self.received.lock().unwrap()) {
            self.hooked.hear(&body);
            self.tally.hooked += 1;
        }
    }

    /// The same until they have what they should. `false`: they did not get it.
    async fn take_until(&mut self, is_enough: impl Fn(&Self) -> bool) -> bool {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let taking = tokio::time::timeout(PATIENCE, async {
            while !is_enough(self) {
                ticks.tick().await;
                self.take().await;
            }
        });
        taking.await.is_ok()
    }

    async fn work(&mut self, program: &Program, portion: usize) {
        self.send(portion).await;
        self.ask(program, portion).await;
        self.take().await;
    }

    /// The same, and what else there must be for a program to come to this step.
    async fn work_towards(&mut self, point: Failpoint, program: &Program, portion: usize) {
        self.work(program, portion).await;
        if matches!(point, Failpoint::MailSent | Failpoint::MailNoted) {
            self.run_short(program).await;
        }
    }

    /// A life that ends when the program comes to this step for the nth time.
    pub(crate) async fn die_at(&mut self, point: Failpoint, nth: usize) {
        self.send(BURST).await;
        let ended = match self.begin(Some(format!("{}:{nth}", point.name()))).await {
            Err(ended) => ended,
            Ok(mut program) => {
                let (mut ticks, mut turns) = (tokio::time::interval(Duration::from_millis(10)), 0);
                let dying = tokio::time::timeout(LIFE, async {
                    while !program.has_ended() {
                        ticks.tick().await;
                        turns += 1;
                        // At first much is on its way; then a little more, now and then, keeps everything going.
                        if turns <= 3 {
                            self.work_towards(point, &program, PORTION).await;
                        } else if turns % 20 == 0 {
                            self.work_towards(point, &program, 1).await;
                        }
                    }
                });
                let died = dying.await.is_ok();
                assert!(died, "it never came to {} for the {nth}th time:\n{}", point.name(), program.log());
                program.ended().await
            }
        };
        self.has_died_at(point, &ended);
    }

    fn has_died_at(&mut self, point: Failpoint, ended: &Ended) {
        assert_eq!(ended.status.signal(), Some(9), "{}", ended.log);
        let last_words = format!("dies at {}", point.name());
        assert!(ended.log.lines().any(|line| line == last_words), "{}", ended.log);
        self.tally.kill(point.name());
        self.has_lived(ended);
    }

    /// A life in which the broker is killed, and comes back.
    pub(crate) async fn lose_broker(&mut self) {
        self.send(BURST).await;
        let program = self.begin(None).await.unwrap();
        let fresh = self.fresh_for_people(PORTION);
        tokio::join!(self.people.ask(&program, fresh), async { self.broker.kill() });
        let sink = self.sink();
        self.tally.kill(sink);
        self.ask(&program, PORTION).await;
        self.broker.bring_back().await;
        self.work(&program, PORTION).await;
        self.is_killed(program).await;
    }

    /// A life in which the database is killed, and comes back.
    pub(crate) async fn lose_database(&mut self) {
        self.send(BURST).await;
        let program = self.begin(None).await.unwrap();
        let fresh = self.fresh_for_people(PORTION);
        let Database::Postgres(server, _) = &mut self.database else { panic!("SQLite dies with the program") };
        tokio::join!(self.people.ask(&program, fresh), async { server.kill() });
        self.tally.kill("PostgreSQL");
        self.ask(&program, PORTION).await;
        let Database::Postgres(server, _) = &mut self.database else { unreachable!("it is one") };
        server.bring_back().await;
        self.work(&program, PORTION).await;
        self.is_killed(program).await;
    }

    /// What the broker is called among the sinks.
    fn sink(&self) -> &'static str {
        let sinks = [("REDIS_STREAM", "redis-stream"), ("NATS_URL", "nats"), ("AMQP_URL", "rabbitmq")];
        let given = |name: &str| self.environment.iter().any(|(given, _)| given == name);
        sinks.iter().find(|(name, _)| given(name)).unwrap().1
    }

    async fn get(&self, program: &Program, path: &str) -> Value {
        self.people.client.get(program.url(path)).send().await.unwrap().json().await.unwrap()
    }

    /// The last life: nothing dies any more, the rest of so many commands is sent, everything arrives, and all is as it should be.
    pub(crate) async fn come_to_an_end(mut self, commands: usize) -> Tally {
        let program = self.begin(None).await.unwrap();
        while self.tally.commands() < commands || !self.people.unanswered.is_empty() {
            let rest = commands.saturating_sub(self.tally.commands());
            self.work(&program, rest.div_ceil(2).min(10 * PORTION)).await;
        }
        let all = self.tally.commands();
        let waited = self.take_until(|world| world.effects.len() >= all).await;
        let lost: Vec<_> = (0..all).map(|n| Command::nth(n).id()).filter(|id| !self.effects.contains_key(id)).collect();
        assert!(waited && lost.is_empty(), "{} of {all} commands are lost: {lost:?}\n{}", lost.len(), program.log());
        assert_eq!(self.effects.len(), all, "effects of nothing");

        self.assert_as_ordered(&program).await;
        self.assert_letters_acted_once(&program).await;
        self.assert_mails_were_sent().await;
        self.assert_all_was_told(&program).await;
        eventually("the last dead letter", async || {
            let letters = self.run(&["dead-letters", "list"]).await;
            letters.ends_with(&format!("{} dead letters\n", self.tally.unusable)).then_some(())
        })
        .await;
        let log = program.log();
        let status = program.stop().await;
        assert_eq!(status, Some(0));
        self.has_lived(&Ended { status: std::process::ExitStatus::default(), log });
        self.run(&["verify"]).await;
        self.tally
    }

    /// The numbers of each product are what the commands come to.
    async fn assert_as_ordered(&self, program: &Program) {
        for sku in products() {
            let product = self.get(program, &format!("/v1/products/{sku}")).await;
            let found = [&product["allocated"], &product["on_hand"], &product["available"]];
            let expected = numbers_of(&sku, self.tally.commands());
            assert_eq!(found, expected.map(|units| json!(units)).each_ref(), "{product}");
        }
    }

    /// The durable consumer, the webhook and whoever reads the feed have had every event, in order.
    async fn assert_all_was_told(&mut self, program: &Program) {
        let products = self.get(program, "/v1/products?limit=1000").await;
        let version = |product: &Value| Some((product["sku"].as_str()?.to_owned(), product["version"].as_u64()?));
        let versions: BTreeMap<_, _> = products["products"].as_array().unwrap().iter().filter_map(version).collect();
        let hooked = Command::nth(0).sku();
        let hooked_all = |world: &Self| world.hooked.last().get(&hooked) == versions.get(&hooked);
        let waited = self.take_until(|world| *world.told.last() == versions && hooked_all(world)).await;
        assert!(waited, "{versions:?}; told {:?}, hooked {:?}\n{}", self.told, self.hooked, program.log());
        let (mut read, mut after) = (Told::default(), 0);
        loop {
            let page = self.get(program, &format!("/v1/events?after={after}&limit=1000")).await;
            let events = page["events"].as_array().unwrap();
            for placed in events {
                assert!(read.hear(&placed["event"].to_string()).is_some(), "it has two places: {placed}");
            }
            if events.is_empty() {
                break;
            }
            after = page["next"].as_u64().unwrap();
        }
        assert_eq!(*read.last(), versions, "the feed");
    }

    /// Runs another command of the program, which must succeed, and gives what it said.
    async fn run(&self, arguments: &[&str]) -> String {
        let environment = self.environment();
        let output = command(Path::new(PROGRAM), &environment, arguments).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}, {said}{why}", output.status);
        said
    }
}
