//! Where a database is, and how it is spoken with.

use allocation_service_layer::ports::database::{StoreError, StoreResult};
use tokio_postgres::Config;

use super::describe;

/// What libpq's clients know beside `disable`, `prefer` and `require`. As a certificate and its name are always checked, it comes to the last.
const CHECKED: [&str; 2] = ["verify-ca", "verify-full"];

/// Reads a URL.
pub(super) fn read(url: &str) -> StoreResult<Config> {
    let Some((place, settings)) = url.split_once('?') else { return parse(url) };
    let settings = settings.split('&').map(|setting| match setting.split_once('=') {
        Some(("sslmode", mode)) if CHECKED.contains(&mode) => Ok("sslmode=require"),
        Some(("sslmode", "allow")) => Err(failed("sslmode=allow is not supported: it would be no protection")),
        Some(("sslrootcert", _)) => {
            Err(failed("sslrootcert is not supported: TLS_CA_FILE names such a file, for all connections"))
        }
        _ => Ok(setting),
    });
    parse(&format!("{place}?{}", settings.collect::<StoreResult<Vec<_>>>()?.join("&")))
}

fn parse(url: &str) -> StoreResult<Config> {
    url.parse().map_err(|error: tokio_postgres::Error| StoreError::Failed(describe(&error)))
}

fn failed(why: &str) -> StoreError {
    StoreError::Failed(why.to_owned())
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    fn mode(settings: &str) -> SslMode {
        read(&format!("postgres://u:p%3Fw@h/d{settings}")).unwrap().get_ssl_mode()
    }

    #[test]
    fn modes_that_check_are_modes_that_require_tls() {
        for checked in ["require", "verify-ca", "verify-full"] {
            assert_eq!(mode(&format!("?sslmode={checked}")), SslMode::Require, "{checked}");
            assert_eq!(mode(&format!("?connect_timeout=3&sslmode={checked}&application_name=a%20b")), SslMode::Require);
        }
        assert_eq!(mode("?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("?sslmode=prefer"), SslMode::Prefer);
        assert_eq!(mode(""), SslMode::Prefer);
    }

    #[test]
    fn what_would_weaken_them_is_refused() {
        for (settings, named) in [
            ("sslmode=allow", "allow"),
            ("sslmode=none", "sslmode"),
            ("sslrootcert=/ca.pem", "TLS_CA_FILE"),
            ("sslmode=require&sslrootcert=system", "TLS_CA_FILE"),
        ] {
            let why = read(&format!("postgres://u@h/d?{settings}")).unwrap_err().to_string();
            assert!(why.contains(named), "{settings}: {why}");
        }
    }
}
