//! A broker, the program beside it, and a consumer that sees to it that nothing is missed.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use allocation_adapters::tls;
use allocation_service_layer::failpoints::Failpoint;
use allocation_testing::brokers::{Broker, Told};
use allocation_testing::program::{Program, command};
use allocation_testing::servers::postgres_url;
use futures_util::StreamExt;
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

const PROGRAM: &str = env!("CARGO_BIN_EXE_allocation");
/// Products that the tests work with.
const PRODUCTS: [&str; 5] = ["BED", "CHAIR", "DESK", "LAMP", "SOFA"];

/// Makes a test of an async function for each broker. Those that come after `harmed` do to it what others who use it would feel.
macro_rules! for_each_broker {
    ($($test:ident),* $(,)? $(; harmed: $($harmful:ident),* $(,)?)?) => {
        mod redis {
            $crate::world::for_each_broker!(RedisStreams::start: $($test,)* $($($harmful,)*)?);
        }
        mod nats {
            $crate::world::for_each_broker!(Nats::start: $($test,)* $($($harmful,)*)?);
        }
        mod rabbitmq {
            $crate::world::for_each_broker!(Rabbit::shared: $($test,)*);
            $($crate::world::for_each_broker!(Rabbit::start: $($harmful,)*);)?
        }
    };
    ($broker:ident::$start:ident: $($test:ident,)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            super::$test(Box::new(allocation_testing::brokers::$broker::$start().await)).await;
        })*
    };
}
pub(crate) use for_each_broker;

/// What holds units of work back.
pub(crate) struct Held(tokio_postgres::Client);

impl Held {
    /// Lets them go.
    pub(crate) async fn let_go(self) {
        self.0.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    }
}

/// A store, a broker, and what its consumer has been told.
pub(crate) struct World {
    pub(crate) broker: Box<dyn Broker>,
    environment: Vec<(String, String)>,
    client: Client,
    orders: usize,
    /// What the consumer has been told.
    told: Told,
    _folder: TempDir,
}

impl World {
    /// One with an empty SQLite.
    pub(crate) fn new(broker: Box<dyn Broker>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("allocation.db").display());
        Self::at(url, folder, broker)
    }

    /// One with an empty PostgreSQL.
    pub(crate) async fn on_postgres(broker: Box<dyn Broker>) -> Self {
        Self::at(postgres_url().await, tempfile::tempdir().unwrap(), broker)
    }

    fn at(url: String, folder: TempDir, broker: Box<dyn Broker>) -> Self {
        let mut environment = broker.environment();
        environment.push(("DATABASE_URL".into(), url));
        tls::choose_ring();
        let (client, told) = (Client::new(), Told::default());
        Self { broker, environment, client, orders: 0, told, _folder: folder }
    }

    /// With a variable set.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// Starts the program.
    pub(crate) async fn serve(&self) -> Program {
        Program::serve(Path::new(PROGRAM), &self.environment()).await
    }

    /// Starts the program, and waits until it has died at this step.
    pub(crate) async fn serve_until_it_dies_at(&self, point: Failpoint) {
        let mut serve = command(Path::new(PROGRAM), &self.environment(), &["serve"]);
        serve.env("LISTEN", "127.0.0.1:0").env("FAILPOINT", format!("{}:1", point.name()));
        let ended = match Program::begin(&mut serve).await {
            Ok(program) => program.ended().await,
            Err(ended) => ended,
        };
        assert_eq!(ended.status.signal(), Some(9), "{}", ended.log);
    }

    /// Runs another command of the program to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        command(Path::new(PROGRAM), &self.environment(), arguments).output().await.unwrap()
    }

    async fn put(&self, program: &Program, path: &str, body: Value) {
        let answer = self.client.put(program.url(path)).header("content-type", "application/json");
        let answer = answer.body(body.to_string()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 201, "{path}: {:?}", answer.text().await);
    }

    pub(crate) async fn get(&self, program: &Program, path: &str) -> String {
        self.client.get(program.url(path)).send().await.unwrap().text().await.unwrap()
    }

    /// What the broker is called among the sinks.
    pub(crate) fn sink(&self) -> &'static str {
        let sinks = [("REDIS_STREAM", "redis-stream"), ("NATS_URL", "nats"), ("AMQP_URL", "rabbitmq")];
        let given = |name: &str| self.environment.iter().any(|(given, _)| given == name);
        sinks.iter().find(|(name, _)| given(name)).unwrap().1
    }

    /// Has every product bought so many times, which an event tells of each time.
    pub(crate) async fn work(&mut self, program: &Program, times: usize) {
        let first = self.orders;
        self.orders += times;
        if first == 0 {
            for product in PRODUCTS {
                let path = format!("/v1/products/{product}/batches/b");
                self.put(program, &path, json!({"qty": 1_000_000})).await;
            }
        }
        let lines: Vec<Value> = PRODUCTS.iter().map(|product| json!({"sku": product, "qty": 1})).collect();
        let (world, lines) = (&*self, &lines);
        let order = |n| async move {
            world.put(program, &format!("/v1/orders/o{n}"), json!({ "lines": lines })).await;
        };
        futures_util::stream::iter(first..self.orders).for_each_concurrent(32, order).await;
    }

    /// Has somebody ask for more than there is.
    pub(crate) async fn run_out(&self, program: &Program) {
        let body = json!({"lines": [{"sku": "LAMP", "qty": 2_000_000}]}).to_string();
        let answer = self.client.put(program.url("/v1/orders/much")).header("content-type", "application/json");
        assert_eq!(answer.body(body).send().await.unwrap().status().as_u16(), 409);
    }

    /// Buys one unit, in the background.
    pub(crate) fn buy(&self, program: &Program, order: &str, product: &str) -> JoinHandle<()> {
        let request = self.client.put(program.url(&format!("/v1/orders/{order}")));
        let body = json!({"lines": [{"sku": product, "qty": 1}]}).to_string();
        tokio::spawn(async move {
            let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 201);
        })
    }

    async fn database(&self) -> tokio_postgres::Client {
        let url = self.variable("DATABASE_URL");
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Has units of work about a product wait when they have done everything but commit.
    pub(crate) async fn hold_back(&self, product: &str) -> Held {
        let client = self.database().await;
        let hold = format!(
            "CREATE FUNCTION hold_back() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER hold_back AFTER INSERT ON units_of_work DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW WHEN ('{product}' = ANY (NEW.skus)) EXECUTE FUNCTION hold_back();
             SELECT pg_advisory_lock(1)"
        );
        client.batch_execute(&hold).await.unwrap();
        Held(client)
    }

    /// Waits until a unit of work is held back.
    pub(crate) async fn until_somebody_waits(&self) {
        let client = self.database().await;
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        allocation_testing::eventually("somebody to wait", async || {
            let count: i64 = client.query_one(waiting, &[]).await.unwrap().get(0);
            (count > 0).then_some(())
        })
        .await;
    }

    /// How many ids were given to units of work.
    pub(crate) async fn ids_given(&self) -> i64 {
        let sql = "SELECT last_value FROM units_of_work_id_seq";
        self.database().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Takes the next events, and says whether the consumer has had this one of a product.
    pub(crate) async fn told_of(&mut self, product: &str, sequence: u64) -> bool {
        self.take().await;
        self.told().get(product) == Some(&sequence)
    }

    /// Takes the next events that the broker has, and fails the test when one is missing before them. Says how many were new.
    pub(crate) async fn take(&mut self) -> usize {
        let page = self.broker.next().await;
        page.iter().filter_map(|body| self.told.hear(body)).count()
    }

    /// What a variable is set to.
    pub(crate) fn variable(&self, name: &str) -> &str {
        &self.environment.iter().find(|(given, _)| given == name).unwrap().1
    }

    /// How often each product has changed.
    pub(crate) async fn versions(&self, program: &Program) -> BTreeMap<String, u64> {
        let products: Value = serde_json::from_str(&self.get(program, "/v1/products").await).unwrap();
        let version =
            |product: &Value| (product["sku"].as_str().unwrap().to_owned(), product["version"].as_u64().unwrap());
        products["products"].as_array().unwrap().iter().map(version).collect()
    }

    /// Waits until the consumer has been told of everything, in order.
    pub(crate) async fn all_is_told(&mut self, program: &Program) {
        let versions = self.versions(program).await;
        assert_eq!(versions.len(), PRODUCTS.len());
        let waited = tokio::time::timeout(Duration::from_mins(1), async {
            while *self.told() != versions {
                self.take().await;
            }
        });
        let waited = waited.await.is_ok();
        assert!(waited, "told {:?} of {versions:?}\n{}", self.told, program.log());
    }

    /// The consumer begins anew, and knows nothing.
    pub(crate) fn forget_what_was_told(&mut self) {
        self.told = Told::default();
    }

    /// The last event of each product that the consumer has had.
    pub(crate) fn told(&self) -> &BTreeMap<String, u64> {
        self.told.last()
    }

    /// Waits until deliveries to a broker have failed.
    pub(crate) async fn deliveries_fail(&self, program: &Program) {
        allocation_testing::eventually("deliveries to fail", async || {
            let metrics = self.get(program, "/metrics").await;
            let counts = |line: &str| line.starts_with("allocation_delivery_failures_total{") && !line.ends_with(" 0");
            metrics.lines().any(counts).then_some(())
        })
        .await;
    }

    /// What a metric of the broker's sink says, without its labels.
    pub(crate) async fn metric(&self, program: &Program, name: &str) -> Vec<f64> {
        let metrics = self.get(program, "/metrics").await;
        let of_it = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        of_it.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
    }
}
