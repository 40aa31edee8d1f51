//! Logs, to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{BadVariable, Config};

/// Starts logging as configured.
pub(crate) fn start(config: &Config) -> Result<(), BadVariable> {
    let filter = EnvFilter::try_new(&config.log).map_err(|error| BadVariable::new("LOG", error))?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    Ok(())
}
