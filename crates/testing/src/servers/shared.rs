//! The servers that all tests of a run share, each with a database or queues of its own there: those that take seconds to start.

use super::postgres::{self, PostgresServer};
use super::rabbitmq::RabbitServer;

/// A PostgreSQL and a `RabbitMQ`, until they are dropped.
pub struct SharedServers {
    _postgres: PostgresServer,
    _rabbit: RabbitServer,
    told: [(&'static str, String); 2],
}

impl SharedServers {
    /// Begins to start them.
    pub fn begin() -> Self {
        let (postgres, (rabbit, port)) = (PostgresServer::start(), RabbitServer::begin());
        let told = [(postgres::RUNNING, postgres.port().to_string()), port];
        Self { _postgres: postgres, _rabbit: rabbit, told }
    }

    /// What tests find in their environment to know of them.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.told.iter().map(|(name, value)| (*name, value.as_str()))
    }
}
