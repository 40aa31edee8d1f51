//! Messages to people.

use async_trait::async_trait;

use super::event_publisher::DeliveryError;

/// Sends a message to those who are to know.
#[async_trait]
pub trait Notifications: Send + Sync + 'static {
    /// Sends one.
    async fn send(&self, subject: &str, text: &str) -> Result<(), DeliveryError>;
}
