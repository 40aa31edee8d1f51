//! Database, brokers and mail server over TLS: believed are those that an authority of ours has certified, for now and by the name they are called by; and nobody else.

use std::path::{Path, PathBuf};

use allocation_testing::certificates::{Authority, Pair};
use allocation_testing::eventually;
use allocation_testing::servers::{NatsServer, PostgresServer, RabbitServer, RedisServer, SmtpCatcher};
use serde_json::json;
use tempfile::TempDir;
use tokio_postgres::NoTls;

use crate::support::{On, Service, Store};

/// What rustls says of a certificate.
const UNKNOWN: &str = "UnknownIssuer";
const OTHER_NAME: &str = "not valid for name";
const EXPIRED: &str = "expired";

/// Where the servers of these tests are; only their certificates say by which name.
const HERE: &str = "127.0.0.1";

/// Two authorities, in files, of which servers have certificates of the first.
struct World {
    authority: Authority,
    _folder: TempDir,
    ours: PathBuf,
    theirs: PathBuf,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let of_theirs = folder.path().join("theirs");
        std::fs::create_dir(&of_theirs).unwrap();
        let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
        let (ours, theirs) = (authority.write(folder.path()), other.write(&of_theirs));
        Self { authority, _folder: folder, ours, theirs }
    }

    fn pair(&self) -> Pair {
        self.authority.certify(&[HERE])
    }

    fn expired(&self) -> Pair {
        self.authority.certified_once(&[HERE])
    }

    /// A store of its own that is to speak with what `name` names, believing an authority.
    async fn store(&self, name: &str, url: &str, authority: &Path) -> Store {
        Store::new(On::Sqlite).await.with(name, url).with("TLS_CA_FILE", &authority.display().to_string())
    }

    /// Fails the test unless the program, which is told of a server like this, logs each of these reasons and lets nothing through.
    async fn assert_refused(&self, name: &str, url: impl AsRef<str>, authority: &Path, sink: &str, why: &str) {
        let service = self.store(name, url.as_ref(), authority).await.serve().await;
        run_out(&service).await;
        let failed = |line: &&str| line.contains(&format!("sink=\"{sink}\"")) && line.contains("events are delayed");
        let what = format!("{name} to be refused: {why}");
        let line = eventually(&what, async || service.program.log().lines().find(failed).map(str::to_owned)).await;
        assert!(line.contains(why), "{why}: {line}");
        assert!(service.metric(&format!("allocation_sink_lag_events{{sink=\"{sink}\"}}")).await > 0);
    }
}

/// Has something happen that every sink is told of.
async fn run_out(service: &Service) {
    service.batch("LAMP", "b", json!({"qty": 1})).await;
    service.order("o", &[("LAMP", 2)]).await.expect(409);
}

/// Waits until these sinks have all, and commands are waited for from these sources.
async fn assert_spoken_with(service: &Service, sinks: &[&str], sources: &[&str]) {
    run_out(service).await;
    for sink in sinks {
        eventually(&format!("{sink} to have all:\n{}", service.program.log()), async || {
            let lag = service.metric(&format!("allocation_sink_lag_events{{sink=\"{sink}\"}}")).await;
            let sent = service.get("/metrics").await.text.contains(&format!("sink=\"{sink}\""));
            (sent && lag == 0).then_some(())
        })
        .await;
        assert_eq!(service.metric(&format!("allocation_delivery_failures_total{{sink=\"{sink}\"}}")).await, 0);
    }
    for source in sources {
        eventually(&format!("{source} to be consumed from"), async || {
            service.program.log().contains(&format!("consuming source=\"{source}\"")).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_is_believed_by_its_certificate_and_not_otherwise() {
    let world = World::new();
    let server = PostgresServer::start_with_tls(&world.pair());
    let url = server.database().await;
    let by_name = url.replace(HERE, "localhost");
    let store = |url: &str, mode: &str, authority: &Path| {
        let store = Store::at(format!("{url}{mode}"), tempfile::tempdir().unwrap());
        store.with("TLS_CA_FILE", &authority.display().to_string())
    };
    let migrated = async |url: &str, mode: &str, authority: &Path| {
        let output = store(url, mode, authority).run(&["migrate"]).await;
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    for mode in ["?sslmode=require", "?sslmode=verify-full", "?sslmode=verify-ca", "?sslmode=prefer"] {
        for (url, authority, why) in [(&url, &world.theirs, UNKNOWN), (&by_name, &world.ours, OTHER_NAME)] {
            let (done, said) = migrated(url, mode, authority).await;
            assert!(!done && said.contains(why), "{mode}: {said}");
        }
        let (done, said) = migrated(&url, mode, &world.ours).await;
        assert!(done, "{mode}: {said}");
    }
    // Nothing is spoken that could be checked; on this machine that is so unless TLS is asked for.
    for mode in ["?sslmode=disable", ""] {
        assert!(migrated(&by_name, mode, &world.theirs).await.0, "{mode}");
    }

    let serving = store(&url, "?sslmode=require", &world.ours);
    let service = serving.serve().await;
    service.batch("LAMP", "b", json!({"qty": 1})).await;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let all = "SELECT count(*) > 0 AND bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
               WHERE application_name = 'allocation'";
    assert!(client.query_one(all, &[]).await.unwrap().get::<_, bool>(0), "every connection is one of TLS");

    server.show(&world.expired()).await;
    let (done, said) = migrated(&url, "?sslmode=require", &world.ours).await;
    assert!(!done && said.contains(EXPIRED), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_believed_by_its_certificate_and_not_otherwise() {
    let world = World::new();
    let server = RedisServer::start_with_tls(&world.pair()).await;
    let store = world.store("REDIS_URL", &server.url(), &world.ours).await.with("REDIS_STREAM", "events");
    let service = store.serve().await;
    assert_spoken_with(&service, &["redis", "redis-stream"], &["redis", "redis-stream"]).await;
    let past = RedisServer::start_with_tls(&world.expired()).await;
    let by_name = server.url().replace(HERE, "localhost");
    tokio::join!(
        world.assert_refused("REDIS_URL", server.url(), &world.theirs, "redis", UNKNOWN),
        world.assert_refused("REDIS_URL", &by_name, &world.ours, "redis", OTHER_NAME),
        world.assert_refused("REDIS_URL", past.url(), &world.ours, "redis", EXPIRED),
    );
    let careless = world.store("REDIS_URL", &format!("{}#insecure", server.url()), &world.theirs).await;
    let output = careless.run(&["serve"]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("REDIS_URL") && said.contains("always checked"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_is_believed_by_its_certificate_and_not_otherwise() {
    let world = World::new();
    let server = NatsServer::start_with_tls(&world.pair()).await;
    let store = world.store("NATS_URL", &server.url(), &world.ours).await;
    let service = store.serve().await;
    assert_spoken_with(&service, &["nats"], &["nats"]).await;
    let by_name = server.url().replace(HERE, "localhost");
    // A server that asks for TLS is checked as well.
    let without = server.url().replace("tls://", "nats://");
    tokio::join!(
        world.assert_refused("NATS_URL", server.url(), &world.theirs, "nats", UNKNOWN),
        world.assert_refused("NATS_URL", &without, &world.theirs, "nats", UNKNOWN),
        world.assert_refused("NATS_URL", &by_name, &world.ours, "nats", OTHER_NAME),
    );
    // One that has none is not spoken with at all.
    let plain = NatsServer::start().await;
    let url = plain.url().replace("nats://", "tls://");
    world.assert_refused("NATS_URL", &url, &world.ours, "nats", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_is_believed_by_its_certificate_and_not_otherwise() {
    let world = World::new();
    let server = RabbitServer::start_with_tls(&world.pair()).await;
    let store = world.store("AMQP_URL", &server.url(), &world.ours).await.with("AMQP_UNROUTED", "skip");
    let service = store.serve().await;
    assert_spoken_with(&service, &["rabbitmq"], &["rabbitmq"]).await;
    let by_name = server.url().replace(HERE, "localhost");
    tokio::join!(
        world.assert_refused("AMQP_URL", server.url(), &world.theirs, "rabbitmq", UNKNOWN),
        world.assert_refused("AMQP_URL", &by_name, &world.ours, "rabbitmq", OTHER_NAME),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_server_is_believed_by_its_certificate_and_not_otherwise() {
    let world = World::new();
    let always = SmtpCatcher::start_with_tls(&world.pair()).await;
    let asked = SmtpCatcher::start_with_starttls(&world.pair()).await;
    let plain = SmtpCatcher::start().await;
    for catcher in [&always, &asked] {
        let store = world.store("SMTP_URL", &catcher.url(), &world.ours).await;
        let service = store.serve().await;
        run_out(&service).await;
        let mail = eventually("a mail", async || catcher.mails().pop()).await;
        assert!(mail.content.contains("Out of stock for SKU LAMP"), "{}", mail.content);
        let by_name = catcher.url().replace(HERE, "localhost");
        tokio::join!(
            world.assert_refused("SMTP_URL", catcher.url(), &world.theirs, "mail", UNKNOWN),
            world.assert_refused("SMTP_URL", &by_name, &world.ours, "mail", OTHER_NAME),
        );
        assert_eq!(catcher.mails().len(), 1);
    }
    // One that does not offer TLS gets no mail without.
    let url = format!("{}?tls=required", plain.url());
    world.assert_refused("SMTP_URL", &url, &world.ours, "mail", "STARTTLS").await;
    assert!(plain.mails().is_empty());
    for bad in ["smtp://mail?tls=opportunistic", "smtps://mail?tls=required"] {
        let output = world.store("SMTP_URL", bad, &world.ours).await.run(&["serve"]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("SMTP_URL"), "{bad}: {said}");
    }
}
