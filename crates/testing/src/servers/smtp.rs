//! A mail server that keeps what it is given: enough of SMTP for a client that sends.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::free_port;

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

/// Catches mail.
pub struct SmtpCatcher {
    port: u16,
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
        Self { port: free_port(), mails: Arc::default(), task: None }
    }

    /// Starts it on its port.
    pub async fn bring_back(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("the catcher's port");
        let mails = self.mails.clone();
        self.task = Some(tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let mails = mails.clone();
                tokio::spawn(async move { converse(connection, &mails).await });
            }
        }));
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
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

async fn converse(mut connection: TcpStream, mails: &Mutex<Vec<Mail>>) -> Option<()> {
    let (read, mut write) = connection.split();
    let mut lines = BufReader::new(read).lines();
    let mut mail = Mail { from: String::new(), to: String::new(), content: String::new() };
    write.write_all(b"220 catcher\r\n").await.ok()?;
    loop {
        let line = lines.next_line().await.ok()??;
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let address = || line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let reply: &[u8] = match verb.as_str() {
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
                write.write_all(b"354 go on\r\n").await.ok()?;
                mail.content.clear();
                loop {
                    let line = lines.next_line().await.ok()??;
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
                write.write_all(b"221 bye\r\n").await.ok()?;
                return Some(());
            }
            _ => b"500 what?\r\n",
        };
        write.write_all(reply).await.ok()?;
    }
}
