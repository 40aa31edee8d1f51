//! Connections: takes them, no more than may be, and lets go of those on which nothing happens.
//!
//! HTTP/1.1 and HTTP/2 are spoken by hyper, on one port: whoever begins with the preface of HTTP/2 gets that. What hyper has no limit for is watched here, in the same
//! way for both: a [`Pulse`] notes when bytes and requests come and go, and an alarm looks at it now and then. So nothing is timed request by request.

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, IoSlice, Write};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use allocation_service_layer::metrics::{Limit, Metrics};
use allocation_service_layer::ports::clock::Clock;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, Version};
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use super::certificate::Certificate;
use super::problem::Problem;

/// For how long a connection that is to end may stay open with nothing under way.
const LINGER: Duration = Duration::from_secs(1);
/// How long to wait when no connection can be taken, as when too many files are open.
const PAUSE: Duration = Duration::from_millis(100);
/// How much of answers is kept for a stream of HTTP/2 whose reader is slow.
const UNSENT: usize = 64 * 1024;
/// How much a stream of HTTP/2 may send before it is read, and how much all streams of a connection may.
const UNREAD: (u32, u32) = (64 * 1024, 256 * 1024);

/// A connection, without TLS or with it.
type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// What a connection may take up.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// The most connections.
    pub connections: usize,
    /// How long the head of a request may take, and how long a new connection may say nothing.
    pub head: Duration,
    /// The most bytes of a head.
    pub head_bytes: usize,
    /// For how long nothing may happen on a connection.
    pub idle: Duration,
    /// The most requests under way on one connection of HTTP/2; none: HTTP/2 is not spoken.
    pub streams: Option<u32>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            head: Duration::from_secs(10),
            head_bytes: 16 * 1024,
            idle: Duration::from_secs(75),
            streams: Some(100),
        }
    }
}

/// Serves connections.
pub struct Server {
    router: Router,
    limits: ConnectionLimits,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    protocol: auto::Builder<TokioExecutor>,
    /// What TLS is spoken with; none: it is not.
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    /// What whoever is one too many is told, as far as they still hear.
    too_many: String,
}

impl Server {
    /// Serves this within these limits.
    pub fn new(router: Router, limits: ConnectionLimits, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let mut protocol = auto::Builder::new(TokioExecutor::new());
        protocol.http1().max_buf_size(limits.head_bytes);
        let (tls, too_many) = (None, too_many());
        let Some(streams) = limits.streams else {
            return Self { router, limits, clock, metrics, protocol: protocol.http1_only(), tls, too_many };
        };
        protocol
            .http2()
            .max_concurrent_streams(streams)
            // What is larger is refused without our hearing of it, so that it could not be counted; what is over the limit and not twice that is refused by us.
            .max_header_list_size(u32::try_from(2 * limits.head_bytes).unwrap_or(u32::MAX))
            .max_send_buf_size(UNSENT)
            .initial_stream_window_size(UNREAD.0)
            .initial_connection_window_size(UNREAD.1);
        Self { router, limits, clock, metrics, protocol, tls, too_many }
    }

    /// Speaks TLS, and nothing without, showing this certificate.
    #[must_use]
    pub fn with_tls(self, certificate: &Certificate) -> Self {
        Self { tls: Some(certificate.current()), ..self }
    }

    /// Serves until told to stop, and then whatever is under way to its end.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let server = Arc::new(self);
        let (connections, ending) = (TaskTracker::new(), watch::Sender::new(()));
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, _)) => server.take(stream, &connections, &ending),
                // One that has gone again by now is nothing to wait for.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "can't take a connection; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        // Who was in the queue by then is answered as well.
        while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
            server.take(stream, &connections, &ending);
        }
        drop(listener);
        ending.send_replace(());
        connections.close();
        connections.wait().await;
    }

    /// Serves a connection in a task of its own, unless there are too many.
    fn take(self: &Arc<Self>, stream: TcpStream, connections: &TaskTracker, ending: &watch::Sender<()>) {
        let place = Place::take(&self.metrics);
        if place.before >= self.limits.connections {
            self.metrics.bit(Limit::connections);
            // Who is to speak TLS would not understand it.
            if self.tls.is_some() {
                return;
            }
            // It fits into the system's memory, so this does not wait.
            let _ = stream.into_std().and_then(|mut stream| stream.write(self.too_many.as_bytes()));
            return;
        }
        // An answer is one small packet; waiting to fill it would only make it late.
        let _ = stream.set_nodelay(true);
        let (server, told) = (self.clone(), ending.subscribe());
        connections.spawn(async move {
            let pulse = Arc::new(Pulse::new(server.clock.clone()));
            match &server.tls {
                None => server.serve(Either::Left(stream), told, pulse).await,
                Some(tls) => {
                    // Which pair is in force is asked for each connection.
                    let acceptor = TlsAcceptor::from(tls.borrow().clone());
                    if let Some(stream) = server.shake_hands(acceptor, stream, told.clone()).await {
                        server.serve(Either::Right(stream), told, pulse).await;
                    }
                }
            }
            drop(place);
        });
    }

    /// Begins to speak TLS. It has the time that a head has, and what is left of it afterwards is for the head.
    async fn shake_hands(
        &self,
        acceptor: TlsAcceptor,
        stream: TcpStream,
        mut told: watch::Receiver<()>,
    ) -> Option<Box<TlsStream<TcpStream>>> {
        let ending = async {
            let _ = told.changed().await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            biased;
            shaken = acceptor.accept(stream) => match shaken {
                Ok(stream) => Some(Box::new(stream)),
                Err(error) => {
                    tracing::debug!(%error, "a connection did not come to speak TLS");
                    None
                }
            },
            () = ending => None,
            () = tokio::time::sleep(self.limits.head) => {
                self.metrics.bit(Limit::head_seconds);
                None
            }
        }
    }

    /// Serves one connection. It ends by itself, by being of no use, or once told to and nothing is under way.
    async fn serve(&self, stream: Stream, mut told: watch::Receiver<()>, pulse: Arc<Pulse>) {
        let service = service_fn(|request: Request<Incoming>| self.answer(request, &pulse));
        let stream = TokioIo::new(Watched { stream, pulse: pulse.clone() });
        let mut connection = pin!(self.protocol.serve_connection(stream, service));
        // Less than all of it when TLS has taken some.
        let first = pulse.look(self.limits.head, self.limits.idle).unwrap_or_default();
        let mut alarm = pin!(tokio::time::sleep(first));
        let mut ending = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => return self.note(ended),
                _ = told.changed(), if !ending => ending = true,
                () = alarm.as_mut() => {
                    let (head, idle) = if ending { (LINGER, LINGER) } else { (self.limits.head, self.limits.idle) };
                    match pulse.look(head, idle) {
                        Ok(again) => {
                            alarm.set(tokio::time::sleep(again));
                            continue;
                        }
                        // It was asked to end, and has had its time.
                        Err(_) if ending => return,
                        Err(limit) => {
                            self.metrics.bit(limit);
                            ending = true;
                        }
                    }
                }
            }
            connection.as_mut().graceful_shutdown();
            alarm.set(tokio::time::sleep(LINGER));
        }
    }

    /// Has a request answered.
    fn answer(
        &self,
        request: Request<Incoming>,
        pulse: &Arc<Pulse>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<> {
        let handling = Handling::begin(pulse, request.version());
        // Others of the connection have to wait.
        if self.limits.streams.is_some_and(|most| handling.nth == most as usize) && handling.pulse.has_streams() {
            self.metrics.bit(Limit::streams);
        }
        let answer = self.router.clone().call(request.map(Body::new));
        async move {
            let answer = answer.await;
            drop(handling);
            answer
        }
    }

    /// Counts a head that was too large; everything else a connection may end by is its caller's affair.
    fn note(&self, ended: Result<(), Box<dyn Error + Send + Sync>>) {
        let Err(error) = ended else { return };
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large) {
            self.metrics.bit(Limit::head_bytes);
        }
        tracing::debug!(%error, "a connection has ended");
    }
}

/// The answer to a connection that is not taken.
fn too_many() -> String {
    let body = Problem::overloaded("there are too many connections").to_string();
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\nconnection: close";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// The place of a connection among all that there are.
struct Place {
    /// How many there were before it.
    before: usize,
    metrics: Metrics,
}

impl Place {
    fn take(metrics: &Metrics) -> Self {
        let before = usize::try_from(metrics.connections.inc()).unwrap_or(0);
        Self { before, metrics: metrics.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

/// What happens on a connection. Times are in milliseconds.
struct Pulse {
    clock: Arc<dyn Clock>,
    /// How many requests are being handled.
    handled: AtomicUsize,
    /// Whether there are several requests at a time, as HTTP/2 has them.
    streams: AtomicBool,
    /// Since when a head is being read; 0: none is.
    head_since: AtomicU64,
    /// Since when nothing was sent.
    quiet_since: AtomicU64,
}

impl Pulse {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let pulse = Self {
            clock,
            handled: AtomicUsize::new(0),
            streams: AtomicBool::new(false),
            head_since: AtomicU64::new(0),
            quiet_since: AtomicU64::new(0),
        };
        // Whoever connects has something to say.
        pulse.head_since.store(pulse.now(), Ordering::Relaxed);
        pulse
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn has_streams(&self) -> bool {
        self.streams.load(Ordering::Relaxed)
    }

    /// Bytes have come. Of HTTP/2 it can't be said what they are: it has the time that a quiet connection has.
    fn heard(&self) {
        let between_requests = self.handled.load(Ordering::Relaxed) == 0 && !self.has_streams();
        if between_requests && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Bytes have gone.
    fn sent(&self) {
        self.quiet_since.store(self.now(), Ordering::Relaxed);
    }

    /// When to look again, or which limit the connection has come to.
    fn look(&self, head: Duration, idle: Duration) -> Result<Duration, Limit> {
        if self.handled.load(Ordering::Relaxed) > 0 {
            return Ok(head);
        }
        let passed = |since: u64| Duration::from_millis(self.now().saturating_sub(since));
        let (since, most, limit) = match self.head_since.load(Ordering::Relaxed) {
            0 => (self.quiet_since.load(Ordering::Relaxed), idle, Limit::idle_seconds),
            since => (since, head, Limit::head_seconds),
        };
        let left = most.saturating_sub(passed(since));
        // A head may begin meanwhile.
        if left.is_zero() { Err(limit) } else { Ok(left.min(head)) }
    }
}

/// A request is being handled for as long as this is kept.
struct Handling {
    pulse: Arc<Pulse>,
    /// How many are, with it.
    nth: usize,
}

impl Handling {
    fn begin(pulse: &Arc<Pulse>, version: Version) -> Self {
        let nth = pulse.handled.fetch_add(1, Ordering::Relaxed) + 1;
        pulse.head_since.store(0, Ordering::Relaxed);
        if version == Version::HTTP_2 {
            pulse.streams.store(true, Ordering::Relaxed);
        }
        Self { pulse: pulse.clone(), nth }
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.pulse.sent();
        self.pulse.handled.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that tells a [`Pulse`] what goes through it.
struct Watched<S> {
    stream: S,
    pulse: Arc<Pulse>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        if into.filled().len() > before {
            self.pulse.heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.pulse.sent();
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, pieces))?;
        self.pulse.sent();
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
