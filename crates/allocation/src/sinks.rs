//! Shows the sinks, and forgets those that are no more.

use crate::Failure;
use crate::bootstrap::Store;
use crate::config::Config;

/// Lists every sink with how far it is.
pub(crate) async fn show(config: &Config) -> Result<(), Failure> {
    let store = Store::open_known(config).await?;
    let log = store.log();
    let last = log.last_position().await?;
    for sink in log.sinks().await? {
        println!("{} has seen {} of {last}", sink.name, sink.position);
    }
    Ok(())
}

/// Forgets one. Should it come back, it is new.
pub(crate) async fn forget(config: &Config, sink: &str) -> Result<(), Failure> {
    let store = Store::open_known(config).await?;
    if store.webhooks().hooks().await?.iter().any(|hook| hook.id.sink() == sink) {
        return Err(format!("{sink} is a webhook: remove it with DELETE /v1/webhooks/{{id}}").into());
    }
    if !store.log().forget(sink).await? {
        return Err(format!("no sink {sink:?} is known; `allocation events sinks` shows those that are").into());
    }
    println!("forgot {sink}");
    Ok(())
}
