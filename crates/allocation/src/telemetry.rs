//! Logs, to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{BadVariable, Config, LogFormat};

/// Starts logging as configured.
pub(crate) fn start(config: &Config) -> Result<(), BadVariable> {
    let filter = EnvFilter::try_new(&config.log).map_err(|error| BadVariable::new("LOG", error))?;
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => lines.with_ansi(colours).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
