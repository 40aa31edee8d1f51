//! Load by `wrk`: a closed loop, each connection sending its next request when the last is answered.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::{PRODUCTS, Request, Skus};
use crate::Outcome;
use crate::report::real;

/// What to send, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) request: Request,
    pub(crate) skus: Skus,
    pub(crate) connections: u64,
    pub(crate) seconds: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    /// Requests with an answer that says yes.
    pub(crate) accepted: u64,
    /// Requests answered 400 and above.
    pub(crate) refused: u64,
    /// Connections, reads and writes that failed, and answers that took too long.
    pub(crate) broken: u64,
    pub(crate) seconds: f64,
    /// Some orders that were certainly answered.
    pub(crate) samples: Vec<String>,
}

impl Answered {
    /// Requests a second, whatever the answer.
    pub(crate) fn rate(&self) -> f64 {
        real(self.accepted + self.refused) / self.seconds
    }
}

/// How many orders of each thread are looked up afterwards.
const SAMPLES: u64 = 10;

/// Runs `wrk` to its end. `prefix` begins every order id, and must be new for each run.
pub(crate) async fn run(wrk: &Path, folder: &Path, address: SocketAddr, load: Load, prefix: &str) -> Outcome<Answered> {
    let (kind, orders) = match load.request {
        Request::Put(_) => ("put", 0),
        Request::Post => ("post", 0),
        Request::GetOrder(orders) => ("order", orders),
        Request::GetProduct => ("product", 0),
    };
    let skus = match load.skus {
        Skus::One => "one",
        Skus::Even => "even",
        Skus::Zipf => "zipf",
    };
    let script = folder.join(format!("{prefix}.lua"));
    let lines = load.request.lines();
    let head = format!(
        "prefix, kind, lines, skus = \"{prefix}\", \"{kind}\", {lines}, \"{skus}\"\nproducts, orders = {PRODUCTS}, {orders}\n"
    );
    std::fs::write(&script, format!("{head}{}", include_str!("wrk.lua")))?;

    let threads = load.connections.min(2);
    let mut command = Command::new(wrk);
    command.args(["--timeout", "10s", "--threads", &threads.to_string()]);
    command.args(["--connections", &load.connections.to_string(), "--duration", &format!("{}s", load.seconds)]);
    command.arg("--script").arg(&script).arg(format!("http://{address}/"));
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    std::fs::remove_file(&script)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let json = said.lines().rev().find(|line| line.starts_with('{'));
    let json = json.ok_or_else(|| format!("wrk: {said}{}", String::from_utf8_lossy(&output.stderr)))?;
    let told: serde_json::Value = serde_json::from_str(json)?;
    let number = |name: &str| told[name].as_u64().unwrap_or(0);

    let (refused, broken) = (number("refused"), number("broken"));
    let mut samples = Vec::new();
    if load.request.lines() > 0 && refused + broken == 0 {
        let in_flight = load.connections.div_ceil(threads);
        for (thread, sent) in told["sent"].as_array().into_iter().flatten().enumerate() {
            // Each connection has one request under way, so what was sent before the last of each is answered. The first was never
            // sent: wrk makes it to see what the script does.
            let answered = sent.as_u64().unwrap_or(0).saturating_sub(in_flight);
            let step = usize::try_from((answered / SAMPLES).max(1))?;
            samples.extend((2..=answered).step_by(step).map(|nth| format!("{prefix}-{thread}-{nth}")));
        }
    }
    Ok(Answered {
        accepted: number("requests").saturating_sub(refused),
        refused,
        broken,
        seconds: real(number("micros")) / 1e6,
        samples,
    })
}
