//! Whether what was answered is true: a figure counts only if it is.

use std::net::SocketAddr;

use crate::Outcome;
use crate::harness::Bench;
use crate::http::Client;
use crate::store::Store;

impl Bench {
    /// The books must balance, and every line that was promised must be in them.
    pub(crate) async fn check(&mut self, store: &Store) -> Outcome<()> {
        let output = store.command(self, &["verify"]).output().await?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            self.fail(format!("{:?}: the books do not balance: {}{told}", store.on, tail(&said)));
        }
        // "1000 products, 1000 batches, 12345 lines, …"
        let lines = said.lines().last().and_then(|line| line.split(", ").nth(2)?.strip_suffix(" lines")?.parse().ok());
        let lines: u64 = lines.unwrap_or(0);
        if lines < store.promised {
            self.fail(format!("{:?}: {} lines were promised and {lines} are stored", store.on, store.promised));
        }
        Ok(())
    }

    /// Orders that were promised must be found.
    pub(crate) async fn look_up(&mut self, address: SocketAddr, orders: &[String]) -> Outcome<()> {
        let mut client = Client::connect(address).await?;
        for order in orders {
            let answer = client.send("GET", &format!("/v1/orders/{order}"), "").await?;
            if answer.status != 200 || !answer.body.contains(r#""state":"allocated""#) {
                self.fail(format!("order {order} was promised and is not there: {}", answer.body));
            }
        }
        Ok(())
    }
}

/// The end of what a program said.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}
