//! Clients that do not behave: every byte on a connection, as HTTP/1.1 and as HTTP/2.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer or the end of a connection is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// Kinds of frames.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
/// Flags of frames.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A connection.
pub(crate) struct Raw(pub(crate) TcpStream);

/// A frame of HTTP/2.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Raw {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Sends bytes; the other side may have closed.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.0.write_all(bytes.as_ref()).await;
        self
    }

    /// Sends bytes one by one, with a pause between them, until the other side closes. The first are sent at once.
    pub(crate) async fn trickle(&mut self, first: impl AsRef<[u8]>, then: u8) -> Vec<u8> {
        self.send(first).await;
        let (mut from, mut into) = self.0.split();
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let trickling = async {
            loop {
                ticks.tick().await;
                let _ = into.write_all(&[then]).await;
            }
        };
        tokio::select! {
            got = until_closed(&mut from) => got,
            () = trickling => unreachable!("it ends by the other side's closing"),
        }
    }

    /// What comes until the other side closes.
    pub(crate) async fn until_closed(&mut self) -> Vec<u8> {
        until_closed(&mut self.0).await
    }

    /// The same as text.
    pub(crate) async fn told(&mut self) -> String {
        String::from_utf8_lossy(&self.until_closed().await).into_owned()
    }

    /// An answer of HTTP/1.1 of known length: its head and body.
    pub(crate) async fn answer(&mut self) -> String {
        let mut got = Vec::new();
        let whole = async {
            loop {
                let text = String::from_utf8_lossy(&got);
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    if length.map_or(0, |length| length.parse().unwrap()) <= body.len() {
                        return text.into_owned();
                    }
                }
                assert!(self.0.read_buf(&mut got).await.unwrap() > 0, "it closes within an answer: {got:?}");
            }
        };
        tokio::time::timeout(PATIENCE, whole).await.expect("an answer")
    }

    /// Begins to speak HTTP/2.
    pub(crate) async fn http2(address: SocketAddr) -> Self {
        let mut raw = Self::to(address).await;
        raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.send(frame(4, 0, 0, &[])).await;
        raw
    }

    /// The next frame of one of these kinds.
    pub(crate) async fn next(&mut self, kinds: &[u8]) -> Frame {
        let next = async {
            loop {
                let mut head = [0; 9];
                self.0.read_exact(&mut head).await.unwrap();
                let mut payload =
                    vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
                self.0.read_exact(&mut payload).await.unwrap();
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                if kinds.contains(&head[3]) {
                    return Frame { kind: head[3], stream, payload };
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a frame")
    }
}

async fn until_closed(from: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut got = Vec::new();
    // A reset is an end like any other.
    let read =
        tokio::time::timeout(PATIENCE, async { while from.read_buf(&mut got).await.is_ok_and(|more| more > 0) {} });
    read.await.unwrap_or_else(|_| panic!("it is not closed; it said {:?}", String::from_utf8_lossy(&got)));
    got
}

/// A frame of HTTP/2.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The head of a request, packed as simply as HPACK allows.
pub(crate) fn head(method: &str, path: &str) -> Vec<u8> {
    // Fields by their number in the static table: scheme http, and the names of method, authority and path.
    let mut packed = vec![0x86];
    for (name, value) in [(2, method), (1, "localhost"), (4, path)] {
        packed.extend([name, u8::try_from(value.len()).unwrap()]);
        packed.extend(value.bytes());
    }
    packed
}

/// A question without a body.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", path))
}

/// A request of which a body is to come.
pub(crate) fn put(stream: u32, path: &str) -> Vec<u8> {
    let mut packed = head("PUT", path);
    // Number 31 of the static table: content-type.
    packed.extend([0x0f, 16, 16]);
    packed.extend(b"application/json");
    frame(HEADERS, END_HEADERS, stream, &packed)
}
