//! Mail over SMTP.

use std::time::Duration;

use allocation_service_layer::ports::event_publisher::DeliveryError;
use allocation_service_layer::ports::notifications::Notifications;
use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use percent_encoding::percent_decode_str;
use url::Url;

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
    /// Mail through this server (`smtp://user:password@host:port`).
    ///
    /// # Errors
    /// When the URL can't be understood.
    pub fn new(url: &str, from: Mailbox, to: Mailbox) -> Result<Self, DeliveryError> {
        let bad = |why: &dyn std::fmt::Display| DeliveryError(format!("SMTP: {why}"));
        let url = Url::parse(url).map_err(|error| bad(&error))?;
        if url.scheme() != "smtp" {
            return Err(bad(&format_args!("{}:// is not supported, only smtp://", url.scheme())));
        }
        let host = url.host_str().ok_or_else(|| bad(&"no host"))?;
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(url.port().unwrap_or(25))
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
