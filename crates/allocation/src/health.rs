//! Asks a running service whether it is ready, for health checks of containers that have no other program in them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;
use crate::config::Config;

/// Whether the API at `API_HOST` says that it is ready. Why not goes to standard error.
pub(crate) async fn ready(config: &Config) -> Result<bool, Failure> {
    let (host, port) = &config.api;
    let asked = tokio::time::timeout(Duration::from_secs(5), async {
        let mut stream = TcpStream::connect((host.as_str(), *port)).await?;
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(64 * 1024).read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    })
    .await;
    let why = match asked {
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200 ") => return Ok(true),
        Ok(Ok(answer)) => answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer within 5 seconds".to_owned(),
    };
    eprintln!("allocation: {host}:{port} is not ready: {why}");
    Ok(false)
}
