//! The program with a store of its own, and the words that tests use.

use std::path::Path;
use std::process::Output;

use allocation_testing::program::{Program, command};
use allocation_testing::servers::postgres_url;
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

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
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::support::On::Sqlite).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::support::On::Postgres).await;
            })*
        }
    };
}
pub(crate) use on_both_stores;

/// A store, and what else the program is told.
pub(crate) struct Store {
    environment: Vec<(String, String)>,
    _folder: TempDir,
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
        Self { environment: vec![("DATABASE_URL".into(), url)], _folder: folder }
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
        Service::new(Program::serve(Path::new(PROGRAM), &self.environment()).await)
    }

    /// Runs another command of the program to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        command(Path::new(PROGRAM), &self.environment(), arguments).output().await.unwrap()
    }

    /// Fails the test when the books do not balance.
    pub(crate) async fn assert_balanced(&self) -> String {
        let output = self.run(&["verify"]).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

/// A running service and a client of it.
pub(crate) struct Service {
    pub(crate) program: Program,
    pub(crate) client: Client,
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
    fn new(program: Program) -> Self {
        Self { program, client: Client::new() }
    }

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

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
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
