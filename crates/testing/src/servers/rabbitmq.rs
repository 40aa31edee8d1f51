//! A throwaway `RabbitMQ`, without plugins, and with an Erlang port mapper of its own.

use std::path::PathBuf;
use std::process::Command;

use super::keeper::{Keeper, Ways, kept};
use super::programs::{Found, Wanted};
use super::{NO_TLS, command, folder, free_port, write_pair};
use crate::certificates::Pair;

const RABBITMQ: Wanted = Wanted {
    // Lies beside the server itself; what Debian has on the path insists on a user of its own.
    program: "rabbitmq-env",
    folders: &["/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin"],
    package: "rabbitmq-server",
    image: "docker.io/library/rabbitmq:3.13",
};

/// The variable under which a server that was started for the whole test run is known.
const RUNNING: &str = "ALLOCATION_TEST_RABBITMQ_PORT";

type Control = Box<dyn Fn() -> Command + Send + Sync>;

/// A server of its own, that can be taken away and brought back.
pub struct RabbitServer {
    keeper: Keeper,
    port: u16,
    /// Gives the `rabbitmqctl` that reaches it.
    control: Control,
    scheme: &'static str,
}

impl RabbitServer {
    /// Starts one, and waits until it takes connections.
    pub async fn start() -> Self {
        Self::with(None).await
    }

    /// Starts one that speaks TLS only, showing this pair.
    pub async fn start_with_tls(pair: &Pair) -> Self {
        Self::with(Some(pair)).await
    }

    async fn with(pair: Option<&Pair>) -> Self {
        let mut server = Self::stopped(pair);
        server.bring_back().await;
        server
    }

    /// Begins to start one for tests that share it, and gives the variable that tells them of it.
    pub(super) fn begin() -> (Self, (&'static str, String)) {
        let mut server = Self::stopped(None);
        server.keeper.begin();
        let told = (RUNNING, server.port.to_string());
        (server, told)
    }

    /// Where the server is that was started for all tests of this run, if one was.
    pub fn shared() -> Option<String> {
        Some(url("amqp", std::env::var(RUNNING).ok()?.parse().ok()?))
    }

    fn stopped(pair: Option<&Pair>) -> Self {
        let (folder, port) = (folder("rabbitmq"), free_port());
        let (keeper, control) = match RABBITMQ.find() {
            Found::Program(program) => Self::program(program, port, folder, pair),
            Found::Image(image) => {
                assert!(pair.is_none(), "{NO_TLS}");
                let name = format!("allocation-{}-{port}", std::process::id());
                let control = move || {
                    let mut docker = Command::new("docker");
                    docker.args(["exec", &name, "rabbitmqctl"]);
                    docker
                };
                // Its data is found by the name of its host.
                let options = ["--hostname", "allocation-tests"].map(str::to_owned);
                let keeper = Keeper::container(image, "TERM", (port, 5672), "/var/lib/rabbitmq", &options, &[], folder);
                (keeper, Box::new(control) as Control)
            }
        };
        let scheme = if pair.is_some() { "amqps" } else { "amqp" };
        Self { keeper, port, control, scheme }
    }

    fn program(program: PathBuf, port: u16, folder: tempfile::TempDir, pair: Option<&Pair>) -> (Keeper, Control) {
        let home = folder.path().to_owned();
        let (distribution, mapper) = (free_port().to_string(), free_port().to_string());
        let node = format!("allocation-{port}@localhost");
        let config = home.join("rabbitmq.conf");
        let listener = match pair.map(|pair| write_pair(pair, &home)) {
            None => format!("listeners.tcp.1 = 127.0.0.1:{port}"),
            Some(files) => format!(
                "listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{port}\nssl_options.verify = verify_none\n\
                 ssl_options.certfile = {}\nssl_options.keyfile = {}",
                files.chain.display(),
                files.key.display()
            ),
        };
        let text = format!("{listener}\nloopback_users = none\ndisk_free_limit.absolute = 1MB\n");
        std::fs::write(&config, text).expect("its folder");
        let within = move |mut command: Command| {
            command.env("HOME", &home).env("ERL_EPMD_PORT", &mapper).env("ERL_EPMD_ADDRESS", "127.0.0.1");
            command.env("RABBITMQ_NODENAME", &node).env("RABBITMQ_DIST_PORT", &distribution);
            // No file of the machine's own server is read.
            command.env("RABBITMQ_CONF_ENV_FILE", "/dev/null").env("RABBITMQ_CONFIG_FILE", &config);
            command.env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("enabled_plugins"));
            command
        };
        let mut rabbit = within(Command::new(program.with_file_name("rabbitmq-server")));
        let home = folder.path().to_owned();
        rabbit.env("RABBITMQ_MNESIA_BASE", home.join("data")).env("RABBITMQ_LOG_BASE", home.join("logs"));
        rabbit.env("RABBITMQ_ADVANCED_CONFIG_FILE", home.join("advanced.config"));
        rabbit
            .env("RABBITMQ_SCHEMA_DIR", home.join("schema"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", home.join("config"));
        // The script becomes the server, which is then what a signal reaches; and a server that waits spins for nobody.
        rabbit.env("RABBITMQ_ALLOW_INPUT", "1").env("RABBITMQ_SERVER_START_ARGS", "-noinput");
        rabbit.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 2:2 +sbwt none");
        let mut ways = Ways::of_program();
        // The port mapper outlives the servers that it knows.
        ways.last = "epmd -kill >/dev/null 2>&1".into();
        let control = move || within(command(program.with_file_name("rabbitmqctl")));
        (Keeper::new(&rabbit, folder, &ways), Box::new(control))
    }

    /// Where it is.
    pub fn url(&self) -> String {
        url(self.scheme, self.port)
    }

    /// How much memory it may take, as a part of the machine's: with next to none it blocks whoever publishes.
    pub fn limit_memory(&mut self, part: f64) {
        let said =
            (self.control)().args(["set_vm_memory_high_watermark", &part.to_string()]).output().expect("rabbitmqctl");
        assert!(said.status.success(), "rabbitmqctl: {}", String::from_utf8_lossy(&said.stderr));
    }
}

fn url(scheme: &str, port: u16) -> String {
    format!("{scheme}://guest:guest@127.0.0.1:{port}/%2f")
}

kept!(RabbitServer);
