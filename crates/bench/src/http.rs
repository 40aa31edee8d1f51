//! As much of HTTP/1.1 as talking to our own program takes, and no more, so that the load generator costs little.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::Outcome;

/// One connection that is kept open.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    line: String,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), line: String::new() })
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn send(&mut self, method: &str, path: &str, body: &str) -> Outcome<Answer> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> Outcome<Answer> {
        self.read_line().await?;
        let status = self.line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no status line")?;
        let mut length = 0;
        loop {
            self.read_line().await?;
            let line = self.line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok(Answer { status, body: String::from_utf8(body)? })
    }

    async fn read_line(&mut self) -> Outcome<()> {
        self.line.clear();
        match self.stream.read_line(&mut self.line).await? {
            0 => Err("the connection was closed".into()),
            _ => Ok(()),
        }
    }
}

/// One request on a connection of its own.
pub(crate) async fn once(address: SocketAddr, method: &str, path: &str, body: &str) -> Outcome<Answer> {
    Client::connect(address).await?.send(method, path, body).await
}

/// The value of a counter without labels.
pub(crate) async fn metric(address: SocketAddr, name: &str) -> Outcome<u64> {
    let text = once(address, "GET", "/metrics", "").await?.body;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.ok_or_else(|| format!("no metric {name}").into())
}

/// Whether all orders that were put got this answer.
pub(crate) async fn all_orders_got(address: SocketAddr, status: u16) -> Outcome<bool> {
    let text = once(address, "GET", "/metrics", "").await?.body;
    let counted = text.lines().filter(|line| line.starts_with("allocation_http_requests_total"));
    let mut counted = counted.filter(|line| line.contains("PUT") && line.contains("/v1/orders/"));
    Ok(counted.all(|line| line.contains(&format!("\"{status}\""))))
}
