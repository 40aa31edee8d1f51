//! Makes API keys, shows, replaces and revokes them.

use std::process::ExitCode;

use allocation_service_layer::access::{Issued, KeyName, Refused, Scopes};
use allocation_service_layer::ports::api_keys::ApiKey;
use allocation_service_layer::wire::instant_text;
use clap::Subcommand;
use time::{Duration, OffsetDateTime};

use crate::Failure;
use crate::bootstrap::Store;
use crate::config::Config;
use crate::when::When;

/// What is to be done with API keys.
#[derive(Subcommand)]
pub(crate) enum What {
    /// Make one, and print it: this once, as only a digest is kept
    Create {
        /// Whose it is: events that come of it have `key:NAME` as actor
        #[arg(long)]
        name: KeyName,
        /// What it allows, with commas between several: stock:read, stock:write, orders:read, orders:write, events:read, admin
        #[arg(long)]
        scope: Scopes,
        /// When it ends: in so many days, or at an instant such as 2031-01-02T03:04:05Z; never unless said
        #[arg(long)]
        expires: Option<When>,
    },
    /// List all of them; those of no use any more, too
    List,
    /// Revoke one by its id, or all of a name; running services notice within 5 seconds. Exit status 1: there was none
    Revoke {
        /// The id, or the name
        named: String,
    },
    /// Make one in the place of those of a name, with the same scopes, and print it
    Rotate {
        /// The name
        name: KeyName,
        /// For how many hours those before it go on
        #[arg(long, default_value_t = 24)]
        overlap: u16,
        /// When it ends; unless said it lasts as long as the one before it was to
        #[arg(long)]
        expires: Option<When>,
    },
}

/// Does it.
pub(crate) async fn run(config: &Config, what: &What) -> Result<ExitCode, Failure> {
    let store = match what {
        What::Create { .. } => Store::open_migrated(config).await?,
        _ => Store::open_known(config).await?,
    };
    let issuer = store.issuer();
    let now = store.ambient.clock.now();
    let end = |when: &Option<When>| when.map(|when| when.ahead_of(now)).transpose();
    match what {
        What::Create { name, scope, expires } => {
            show(issuer.create(name.clone(), scope.clone(), end(expires)?).await?)?;
        }
        What::Rotate { name, overlap, expires } => {
            let overlap = Duration::hours((*overlap).into());
            show(issuer.rotate(name.clone(), overlap, end(expires)?).await?)?;
        }
        What::List => {
            for key in issuer.list().await? {
                println!("{}", line(&key, now));
            }
        }
        What::Revoke { named } => {
            let revoked = issuer.revoke(named).await?;
            for key in &revoked {
                println!("revoked {}  {}", key.digest.id(), key.name);
            }
            if revoked.is_empty() {
                println!("{named}: there is no such API key that is not revoked yet");
                return Ok(ExitCode::from(1));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the key itself, and nothing else, to standard output.
fn show(issued: Result<Issued, Refused>) -> Result<(), Failure> {
    let Issued { text, key } = issued?;
    eprintln!("API key {} ({}) allows {}; keep it, it is not shown again", key.name, key.digest.id(), key.scopes);
    println!("{}", text.reveal());
    Ok(())
}

fn line(key: &ApiKey, now: OffsetDateTime) -> String {
    let state = if key.revoked_at.is_some() {
        "revoked"
    } else if key.in_force(now) {
        "in force"
    } else {
        "expired"
    };
    let or_never = |at: Option<OffsetDateTime>| at.map_or_else(|| "never".into(), instant_text);
    let (made, ends, used) = (instant_text(key.created_at), or_never(key.expires_at), or_never(key.last_used_at));
    let (id, name, scopes) = (key.digest.id(), &key.name, &key.scopes);
    format!("{id}  {name}  {state}  {scopes}  made {made}  expires {ends}  used {used}")
}
