//! Logs, to standard error.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;

use crate::config::{BadVariable, Config, LogFormat};

/// Crates that print secrets below `info`: `async_nats` its URL with the password, `lapin` the password when it says who it is, `tokio_postgres` the parameters of
/// statements, among them what webhooks are signed with. What they say there is not logged, whatever `LOG` has.
const INDISCREET: [&str; 3] = ["async_nats", "lapin", "tokio_postgres"];

fn is_discreet(metadata: &Metadata<'_>) -> bool {
    let of = metadata.target().split("::").next();
    *metadata.level() <= Level::INFO || !of.is_some_and(|name| INDISCREET.contains(&name))
}

/// Starts logging as configured.
pub(crate) fn start(config: &Config) -> Result<(), BadVariable> {
    let filter = EnvFilter::try_new(&config.log).map_err(|error| BadVariable::new("LOG", error))?;
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => lines.with_ansi(colours).finish().with(filter_fn(is_discreet)).init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().with(filter_fn(is_discreet)).init(),
    }
    Ok(())
}
