//! A connection, and how statements are sent over it: the one place that knows whether they are prepared.

use std::sync::LazyLock;

use allocation_service_layer::ports::database::StoreResult;
use deadpool_postgres::Object;
use futures_util::future::join3;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::store_error;
use super::value::Value;

/// Settings that every statement is planned with. All statements but those of `verify` look their rows up by key, so a plan made while the
/// tables were small or never analysed must not scan them once they are large; and a plan that can only be the same need not be made again at each
/// execution. By which index: `docs/adr/0019-plans-do-not-depend-on-when-they-were-made.md`. What costs so much by this that the server would translate it
/// into machine code, at each execution, is over sooner than that.
const SETTINGS: [&str; 7] = [
    "enable_seqscan = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    "enable_bitmapscan = off",
    "enable_material = off",
    "jit = off",
    "plan_cache_mode = force_generic_plan",
];

/// Starts a transaction, such that what is read after the products are locked is fresh.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Starts a transaction that sees everything as of one moment.
pub(super) const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// How statements are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Statements {
    /// By name: each is parsed and planned once for each connection, which has its settings from its beginning on. It must be the same
    /// session on the server as long as it lasts.
    #[default]
    Prepared,
    /// Without a name, parsed and planned each time. Every transaction brings its settings, and nothing outlasts it: whoever stands in
    /// between may give each transaction to another session (`docs/adr/0023-a-primary-may-be-lost.md`).
    Unnamed,
}

/// What a session is told at its beginning.
pub(super) fn session() -> String {
    set("SET")
}

fn set(how: &str) -> String {
    SETTINGS.map(|setting| format!("{how} {setting}")).join("; ")
}

/// A connection of the pool.
pub(super) struct Connection {
    client: Object,
    statements: Statements,
}

/// A statement that can be sent at once.
pub(super) enum Ready<'a> {
    Prepared(tokio_postgres::Statement),
    Unnamed(&'a str),
}

impl Connection {
    pub(super) fn new(client: Object, statements: Statements) -> Self {
        Self { client, statements }
    }

    /// Gets a statement ready. Known ones cost nothing; a new one costs a round trip, once for each connection, if it is prepared.
    pub(super) async fn ready<'a>(&self, sql: &'a str) -> StoreResult<Ready<'a>> {
        match self.statements {
            Statements::Prepared => Ok(Ready::Prepared(self.client.prepare_cached(sql).await.map_err(store_error)?)),
            Statements::Unnamed => Ok(Ready::Unnamed(sql)),
        }
    }

    /// Sends a statement within a transaction: when first polled.
    pub(super) async fn send(&self, ready: &Ready<'_>, params: &[&dyn Value]) -> Result<Vec<Row>, Error> {
        match ready {
            Ready::Prepared(statement) => {
                let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| *param as _).collect();
                self.client.query(statement, &params).await
            }
            Ready::Unnamed(sql) => {
                let typed: Vec<(&(dyn ToSql + Sync), _)> =
                    params.iter().map(|param| (*param as _, param.sent_as())).collect();
                self.client.query_typed(sql, &typed).await
            }
        }
    }

    /// Sends the beginning of a transaction: when first polled.
    pub(super) async fn begin(&self, begin: &str) -> Result<(), Error> {
        static LOCAL: LazyLock<String> = LazyLock::new(|| set("SET LOCAL"));
        match self.statements {
            Statements::Prepared => self.client.batch_execute(begin).await,
            Statements::Unnamed => self.client.batch_execute(&format!("{begin}; {}", *LOCAL)).await,
        }
    }

    /// Sends statements without parameters, such as the end of a transaction: when first polled.
    pub(super) async fn script(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await
    }

    /// Runs one statement by itself.
    pub(super) async fn query(&self, sql: &str, params: &[&dyn Value]) -> StoreResult<Vec<Row>> {
        let ready = self.ready(sql).await?;
        if let Ready::Prepared(_) = ready {
            return self.send(&ready, params).await.map_err(store_error);
        }
        // One behind the other, without waiting: settings hold for a transaction.
        let (begun, rows, ended) = join3(self.begin(BEGIN), self.send(&ready, params), self.script("COMMIT")).await;
        begun.map_err(store_error)?;
        let rows = rows.map_err(store_error)?;
        ended.map_err(store_error)?;
        Ok(rows)
    }

    /// Runs one statement within a transaction.
    pub(super) async fn query_within(&self, sql: &str, params: &[&dyn Value]) -> StoreResult<Vec<Row>> {
        let ready = self.ready(sql).await?;
        self.send(&ready, params).await.map_err(store_error)
    }

    /// Closes it instead of giving it back.
    pub(super) fn close(self) {
        drop(Object::take(self.client));
    }
}
