//! Where a database is, and how it is spoken with.

use std::net::IpAddr;
use std::time::Duration;

use allocation_service_layer::ports::database::{StoreError, StoreResult};
use deadpool_postgres::Connect;
use futures_util::future::{BoxFuture, select_ok};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, Error, Socket};

use super::describe;

/// What libpq's clients know beside `disable`, `prefer` and `require`. As a certificate and its name are always checked, it comes to the last.
const CHECKED: [&str; 2] = ["verify-ca", "verify-full"];

/// How long what was sent may go without a sign of life from the other side's machine.
const SILENCE: Duration = Duration::from_secs(5);

/// Reads a URL. What it does not say is filled in, such that several hosts are a primary and its standbys, and a machine that is gone is noticed
/// within seconds; `patience` is how long making a connection may take. With a server on this machine TLS is not spoken unless that is said: nobody is in
/// between, and its certificate is often of its own making.
pub(super) fn read(url: &str, patience: Duration) -> StoreResult<Config> {
    let (place, settings) = url.split_once('?').unwrap_or((url, ""));
    let settings = settings.split('&').filter(|setting| !setting.is_empty());
    let settings = settings.map(|setting| match setting.split_once('=') {
        Some(("sslmode", mode)) if CHECKED.contains(&mode) => Ok("sslmode=require"),
        Some(("sslmode", "allow")) => Err(failed("sslmode=allow is not supported: it would be no protection")),
        Some(("sslrootcert", _)) => {
            Err(failed("sslrootcert is not supported: TLS_CA_FILE names such a file, for all connections"))
        }
        _ => Ok(setting),
    });
    let settings = settings.collect::<StoreResult<Vec<_>>>()?;
    let is_said = |name: &str| settings.iter().any(|setting| setting.split('=').next() == Some(name));
    let url = if settings.is_empty() { place.to_owned() } else { format!("{place}?{}", settings.join("&")) };
    let mut config: Config = url.parse().map_err(|error: Error| StoreError::Failed(describe(&error)))?;
    if !is_said("target_session_attrs") && hosts(&config) > 1 {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    if !is_said("sslmode") && hosts(&config) > 0 && config.get_hosts().iter().all(is_here) {
        config.ssl_mode(SslMode::Disable);
    }
    if !is_said("connect_timeout") {
        // A name may have several addresses, which are tried one after the other.
        config.connect_timeout(patience / 2);
    }
    if !is_said("tcp_user_timeout") {
        config.tcp_user_timeout(SILENCE);
    }
    if !is_said("keepalives_idle") {
        config.keepalives_idle(SILENCE);
    }
    if !is_said("keepalives_interval") {
        config.keepalives_interval(Duration::from_secs(1));
    }
    if !is_said("keepalives_retries") {
        config.keepalives_retries(3);
    }
    config.application_name("allocation");
    Ok(config)
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback()),
        Host::Unix(_) => true,
    }
}

/// How many hosts it names.
fn hosts(config: &Config) -> usize {
    config.get_hosts().len().max(config.get_hostaddrs().len())
}

/// The same of its nth host alone.
fn alone(config: &Config, nth: usize) -> Config {
    let mut alone = Config::new();
    if let Some(user) = config.get_user() {
        alone.user(user);
    }
    if let Some(password) = config.get_password() {
        alone.password(password);
    }
    if let Some(dbname) = config.get_dbname() {
        alone.dbname(dbname);
    }
    if let Some(options) = config.get_options() {
        alone.options(options);
    }
    if let Some(name) = config.get_application_name() {
        alone.application_name(name);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        alone.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        alone.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        alone.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        alone.keepalives_retries(retries);
    }
    alone
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts());
    match config.get_hosts().get(nth) {
        Some(Host::Tcp(host)) => drop(alone.host(host)),
        #[cfg(unix)]
        Some(Host::Unix(folder)) => drop(alone.host_path(folder)),
        None => {}
    }
    if let Some(address) = config.get_hostaddrs().get(nth) {
        alone.hostaddr(*address);
    }
    let ports = config.get_ports();
    if let Some(port) = ports.get(nth).or_else(|| ports.first()) {
        alone.port(*port);
    }
    alone
}

/// Makes connections: to all hosts at once, and takes the first that will do. One that says nothing must not use up the time of the others.
pub(super) struct Connector<T> {
    pub(super) tls: T,
}

impl<T> Connect for Connector<T>
where
    T: MakeTlsConnect<Socket> + Clone + Sync + Send + 'static,
    T::Stream: Sync + Send,
    T::TlsConnect: Sync + Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn connect(&self, config: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        // What no host was given for is told by the attempt.
        let hosts = hosts(config).max(1);
        let connections = (0..hosts).map(|nth| {
            let (config, tls) = (alone(config, nth), self.tls.clone());
            Box::pin(async move { config.connect(tls).await })
        });
        let connections = select_ok(connections);
        Box::pin(async move {
            let ((client, connection), _) = connections.await?;
            let task = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::warn!(error = describe(&error), "connection to PostgreSQL lost");
                }
            });
            Ok((client, task))
        })
    }
}

fn failed(why: &str) -> StoreError {
    StoreError::Failed(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn mode(settings: &str) -> SslMode {
        read(&format!("postgres://u:p%3Fw@h/d{settings}"), PATIENCE).unwrap().get_ssl_mode()
    }

    #[test]
    fn of_several_hosts_the_one_that_may_be_written_to_is_wanted() {
        let wanted = |url: &str| read(url, PATIENCE).unwrap().get_target_session_attrs();
        assert_eq!(wanted("postgres://u@a:1,b:2/d"), TargetSessionAttrs::ReadWrite);
        assert_eq!(wanted("postgres://u@a:1/d?host=b&port=2"), TargetSessionAttrs::ReadWrite);
        assert_eq!(wanted("postgres://u@a/d"), TargetSessionAttrs::Any);
        assert_eq!(wanted("postgres://u@a,b/d?target_session_attrs=any"), TargetSessionAttrs::Any);
    }

    #[test]
    fn a_machine_that_is_gone_is_noticed_within_seconds_unless_something_else_is_said() {
        let config = read("postgres://u@h/d", PATIENCE).unwrap();
        assert_eq!(config.get_tcp_user_timeout(), Some(&SILENCE));
        assert_eq!(config.get_keepalives_idle(), SILENCE);
        assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(1)));
        assert_eq!(config.get_keepalives_retries(), Some(3));
        let config =
            read("postgres://u@h/d?tcp_user_timeout=60&keepalives_idle=70&connect_timeout=1", PATIENCE).unwrap();
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_mins(1)));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(70));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(1)));
    }

    #[test]
    fn a_host_alone_keeps_all_that_is_said_of_all() {
        let settings = "options=-c%20a%3Db&sslmode=require&sslnegotiation=direct&channel_binding=require&keepalives=0\
                        &load_balance_hosts=random&target_session_attrs=read-write";
        let url = |hosts: &str| format!("postgres://u:p@{hosts}/d?{settings}");
        let of_several = read(&url("a:1,b:2,c:3"), PATIENCE).unwrap();
        for (nth, host) in ["a:1", "b:2", "c:3"].into_iter().enumerate() {
            assert_eq!(alone(&of_several, nth), read(&url(host), PATIENCE).unwrap());
        }
        let all_the_same = read("postgres://u@a:7,b:7/d", PATIENCE).unwrap();
        assert_eq!(alone(&all_the_same, 1).get_ports(), [7]);
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
            let mode =
                |settings: &str| read(&format!("postgres://u@{here}/d{settings}"), PATIENCE).unwrap().get_ssl_mode();
            assert_eq!(mode(""), SslMode::Disable, "{here}");
            assert_eq!(mode("?application_name=sslmode"), SslMode::Disable, "{here}");
            assert_eq!(mode("?sslmode=prefer"), SslMode::Prefer, "{here}");
            assert_eq!(mode("?sslmode=require"), SslMode::Require, "{here}");
        }
        for elsewhere in ["db.example", "10.0.0.1", "localhost,db.example"] {
            assert_eq!(read(&format!("postgres://u@{elsewhere}/d"), PATIENCE).unwrap().get_ssl_mode(), SslMode::Prefer);
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
            let why = read(&format!("postgres://u@h/d?{settings}"), PATIENCE).unwrap_err().to_string();
            assert!(why.contains(named), "{settings}: {why}");
        }
    }
}
