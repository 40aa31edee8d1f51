//! A mail server that keeps what it is given: enough of SMTP for a client that sends.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::free_port;
use crate::certificates::Pair;

/// A mail as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's receiver.
    pub to: String,
    /// Headers and text.
    pub content: String,
}

/// Whether a catcher speaks TLS.
#[derive(Clone)]
enum Tls {
    No,
    /// From the first byte on.
    Always(Arc<ServerConfig>),
    /// Once asked to.
    Asked(Arc<ServerConfig>),
}

/// Catches mail.
pub struct SmtpCatcher {
    port: u16,
    tls: Tls,
    mails: Arc<Mutex<Vec<Mail>>>,
    task: Option<JoinHandle<()>>,
}

impl SmtpCatcher {
    /// Starts one.
    pub async fn start() -> Self {
        let mut catcher = Self::stopped();
        catcher.bring_back().await;
        catcher
    }

    /// One that is not running yet, but has its port.
    pub fn stopped() -> Self {
        Self { port: free_port(), tls: Tls::No, mails: Arc::default(), task: None }
    }

    /// Starts one that speaks TLS from the first byte on, and shows this pair.
    pub async fn start_with_tls(pair: &Pair) -> Self {
        Self::begin(Tls::Always(pair.server())).await
    }

    /// Starts one that speaks TLS once asked to by STARTTLS, and takes no mail before.
    pub async fn start_with_starttls(pair: &Pair) -> Self {
        Self::begin(Tls::Asked(pair.server())).await
    }

    async fn begin(tls: Tls) -> Self {
        let mut catcher = Self { port: free_port(), tls, mails: Arc::default(), task: None };
        catcher.bring_back().await;
        catcher
    }

    /// Starts it on its port.
    pub async fn bring_back(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("the catcher's port");
        let (mails, tls) = (self.mails.clone(), self.tls.clone());
        self.task = Some(tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (mails, tls) = (mails.clone(), tls.clone());
                tokio::spawn(async move { answer(connection, tls, &mails).await });
            }
        }));
    }

    /// Where it is.
    pub fn url(&self) -> String {
        let (scheme, end) = match self.tls {
            Tls::No => ("smtp", ""),
            Tls::Always(_) => ("smtps", ""),
            Tls::Asked(_) => ("smtp", "?tls=required"),
        };
        format!("{scheme}://127.0.0.1:{}{end}", self.port)
    }

    /// What was caught.
    pub fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for SmtpCatcher {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn answer(connection: TcpStream, tls: Tls, mails: &Mutex<Vec<Mail>>) -> Option<()> {
    match tls {
        Tls::No => drop(converse(connection, Manner::Plain, mails).await?),
        Tls::Always(config) => {
            let connection = TlsAcceptor::from(config).accept(connection).await.ok()?;
            drop(converse(connection, Manner::Plain, mails).await?);
        }
        Tls::Asked(config) => {
            let connection = converse(connection, Manner::UntilTls, mails).await?;
            let connection = TlsAcceptor::from(config).accept(connection).await.ok()?;
            drop(converse(connection, Manner::Going, mails).await?);
        }
    }
    Some(())
}

/// How a conversation goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Plain,
    /// Until TLS is asked for, and without mail.
    UntilTls,
    /// Goes on after that.
    Going,
}

/// Converses to the end; gives the connection back.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    connection: S,
    manner: Manner,
    mails: &Mutex<Vec<Mail>>,
) -> Option<S> {
    let mut stream = BufReader::new(connection);
    let mut mail = Mail { from: String::new(), to: String::new(), content: String::new() };
    if manner != Manner::Going {
        stream.write_all(b"220 catcher\r\n").await.ok()?;
    }
    loop {
        let line = next_line(&mut stream).await?;
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let address = || line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let reply: &[u8] = match verb.as_str() {
            "EHLO" if manner == Manner::UntilTls => b"250-catcher\r\n250 STARTTLS\r\n",
            "STARTTLS" if manner == Manner::UntilTls => {
                stream.write_all(b"220 go on\r\n").await.ok()?;
                return Some(stream.into_inner());
            }
            "MAIL" if manner == Manner::UntilTls => b"530 STARTTLS first\r\n",
            "EHLO" | "HELO" | "RSET" | "NOOP" => b"250 OK\r\n",
            "MAIL" => {
                mail.from = address();
                b"250 OK\r\n"
            }
            "RCPT" => {
                mail.to = address();
                b"250 OK\r\n"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await.ok()?;
                // Over TLS what is written is on its way once it is flushed.
                stream.flush().await.ok()?;
                mail.content.clear();
                loop {
                    let line = next_line(&mut stream).await?;
                    if line == "." {
                        break;
                    }
                    mail.content.push_str(&line);
                    mail.content.push('\n');
                }
                mails.lock().unwrap_or_else(PoisonError::into_inner).push(mail.clone());
                b"250 OK\r\n"
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await.ok()?;
                stream.flush().await.ok()?;
                return Some(stream.into_inner());
            }
            _ => b"500 what?\r\n",
        };
        stream.write_all(reply).await.ok()?;
        stream.flush().await.ok()?;
    }
}

async fn next_line(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<String> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    Some(line.trim_end_matches(['\r', '\n']).to_owned())
}
