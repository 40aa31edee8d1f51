//! Mail over SMTP.

use std::time::Duration;

use allocation_service_layer::ports::event_publisher::DeliveryError;
use allocation_service_layer::ports::notifications::Notifications;
use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::Tls;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::tls::Trust;

/// Sends mail to one address.
pub struct SmtpNotifications {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Mailbox,
}

/// Reads a mail address.
///
/// # Errors
/// When it is none.
pub fn mailbox(text: &str) -> Result<Mailbox, String> {
    text.parse().map_err(|error| format!("{text:?} is no mail address: {error}"))
}

impl SmtpNotifications {
    /// Mail through this server: `smtps://user:password@host:port` with TLS, `smtp://…?tls=required` with TLS that is begun by STARTTLS, `smtp://…` without.
    ///
    /// # Errors
    /// When the URL can't be understood.
    pub fn new(url: &str, trust: &Trust, from: Mailbox, to: Mailbox) -> Result<Self, DeliveryError> {
        let bad = |why: &dyn std::fmt::Display| DeliveryError(format!("SMTP: {why}"));
        let url = Url::parse(url).map_err(|error| bad(&error))?;
        let host = url.host_str().ok_or_else(|| bad(&"no host"))?;
        let parameters = || trust.smtp(host).map_err(|error| bad(&error));
        let (tls, port) = match (url.scheme(), url.query()) {
            ("smtp", None) => (Tls::None, 25),
            ("smtp", Some("tls=required")) => (Tls::Required(parameters()?), 587),
            ("smtps", None) => (Tls::Wrapper(parameters()?), 465),
            ("smtp" | "smtps", _) => return Err(bad(&"what may follow a `?` is `tls=required`, after smtp://")),
            (other, _) => return Err(bad(&format_args!("{other}:// is not supported, only smtp:// and smtps://"))),
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(url.port().unwrap_or(port))
            .tls(tls)
            .timeout(Some(Duration::from_secs(10)));
        if !url.username().is_empty() {
            let text = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
            let password = text(url.password().unwrap_or_default());
            transport = transport.credentials(Credentials::new(text(url.username()), password));
        }
        let transport = transport.build();
        Ok(Self { transport, from, to })
    }
}

#[async_trait]
impl Notifications for SmtpNotifications {
    async fn send(&self, subject: &str, text: &str) -> Result<(), DeliveryError> {
        let mail = Message::builder()
            .from(self.from.clone())
            .to(self.to.clone())
            .subject(subject)
            .body(text.to_owned())
            .map_err(|error| DeliveryError(format!("mail: {error}")))?;
        self.transport.send(mail).await.map_err(|error| DeliveryError(format!("SMTP: {error}")))?;
        Ok(())
    }
}
