//! Where a database is, and how it is spoken with.

use std::net::IpAddr;

use allocation_service_layer::ports::database::{StoreError, StoreResult};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::describe;

/// What libpq's clients know beside `disable`, `prefer` and `require`. As a certificate and its name are always checked, it comes to the last.
const CHECKED: [&str; 2] = ["verify-ca", "verify-full"];

/// Reads a URL. Where it says nothing of TLS, that is not spoken with a server on this machine: nobody is in between, and its certificate is often of its own making.
pub(super) fn read(url: &str) -> StoreResult<Config> {
    let (place, settings) = url.split_once('?').unwrap_or((url, ""));
    let says = |setting: &str| setting.starts_with("sslmode=");
    let said = settings.split('&').any(says);
    let settings =
        settings.split('&').filter(|setting| !setting.is_empty()).map(|setting| match setting.split_once('=') {
            Some(("sslmode", mode)) if CHECKED.contains(&mode) => Ok("sslmode=require"),
            Some(("sslmode", "allow")) => Err(failed("sslmode=allow is not supported: it would be no protection")),
            Some(("sslrootcert", _)) => {
                Err(failed("sslrootcert is not supported: TLS_CA_FILE names such a file, for all connections"))
            }
            _ => Ok(setting),
        });
    let mut config = parse(&format!("{place}?{}", settings.collect::<StoreResult<Vec<_>>>()?.join("&")))?;
    if !said && !config.get_hosts().is_empty() && config.get_hosts().iter().all(is_here) {
        config.ssl_mode(SslMode::Disable);
    }
    Ok(config)
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback()),
        Host::Unix(_) => true,
    }
}

fn parse(url: &str) -> StoreResult<Config> {
    url.parse().map_err(|error: tokio_postgres::Error| StoreError::Failed(describe(&error)))
}

fn failed(why: &str) -> StoreError {
    StoreError::Failed(why.to_owned())
}

#[cfg(test)]
mod tests {
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
    fn with_a_server_on_this_machine_tls_is_spoken_if_it_is_asked_for() {
        for here in ["localhost", "127.0.0.1:5432", "127.8.8.8", "%2Fvar%2Frun%2Fpostgresql"] {
            let mode = |settings: &str| read(&format!("postgres://u@{here}/d{settings}")).unwrap().get_ssl_mode();
            assert_eq!(mode(""), SslMode::Disable, "{here}");
            assert_eq!(mode("?application_name=sslmode"), SslMode::Disable, "{here}");
            assert_eq!(mode("?sslmode=prefer"), SslMode::Prefer, "{here}");
            assert_eq!(mode("?sslmode=require"), SslMode::Require, "{here}");
        }
        for elsewhere in ["db.example", "10.0.0.1", "localhost,db.example"] {
            assert_eq!(read(&format!("postgres://u@{elsewhere}/d")).unwrap().get_ssl_mode(), SslMode::Prefer);
        }
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
