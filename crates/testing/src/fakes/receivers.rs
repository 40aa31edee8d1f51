//! Who is told of events: a broker, a mail server and receivers of webhooks, that remember what they were given, and can fail when told to.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use allocation_service_layer::ports::event_log::FeedEvent;
use allocation_service_layer::ports::event_publisher::{DeliveryError, EventPublisher};
use allocation_service_layer::ports::notifications::Notifications;
use allocation_service_layer::ports::webhooks::{Answer, SignedPost, WebhookSender};
use async_trait::async_trait;
use tokio::sync::watch;

/// Receivers of webhooks that remember what they were sent, and answer as they are told.
#[derive(Default)]
pub struct FakeReceivers {
    sent: Mutex<Vec<SignedPost>>,
    answers: Mutex<BTreeMap<String, Answer>>,
}

impl FakeReceivers {
    /// What a URL answers from now on; 200 unless said.
    pub fn answer(&self, url: &str, status: u16, retry_after: Option<Duration>) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(url.to_owned(), Answer { status, retry_after });
    }

    /// What was sent to a URL.
    pub fn sent(&self, url: &str) -> Vec<SignedPost> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.iter().filter(|post| post.url == url).cloned().collect()
    }
}

#[async_trait]
impl WebhookSender for FakeReceivers {
    fn admit(&self, url: &str) -> Result<String, String> {
        if url.starts_with("https://") { Ok(url.to_owned()) } else { Err("must be a URL of https".into()) }
    }

    async fn send(&self, post: &SignedPost) -> Result<Answer, DeliveryError> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(post.clone());
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match answers.get(&post.url) {
            // Nobody is there.
            Some(Answer { status: 0, .. }) => Err(DeliveryError("told to fail".into())),
            Some(answer) => Ok(*answer),
            None => Ok(Answer { status: 200, retry_after: None }),
        }
    }
}

/// A broker that remembers, and fails when told to.
#[derive(Default)]
pub struct FakePublisher {
    published: Mutex<Vec<FeedEvent>>,
    failures: Mutex<usize>,
    hung: watch::Sender<bool>,
}

impl FakePublisher {
    /// From now on it does not answer, or does again, those who wait too.
    pub fn hang(&self, hung: bool) {
        self.hung.send_replace(hung);
    }

    /// Whether somebody waits for its answer.
    pub fn is_asked(&self) -> bool {
        self.hung.receiver_count() > 0
    }

    /// The next so many attempts fail.
    pub fn fail(&self, times: usize) {
        *self.failures.lock().unwrap_or_else(PoisonError::into_inner) = times;
    }

    /// What was published.
    pub fn published(&self) -> Vec<FeedEvent> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl EventPublisher for FakePublisher {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn publish(&self, events: &[FeedEvent]) -> Result<(), DeliveryError> {
        let _ = self.hung.subscribe().wait_for(|hung| !hung).await;
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if *failures > 0 {
            *failures -= 1;
            return Err(DeliveryError("told to fail".into()));
        }
        self.published.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(events);
        Ok(())
    }
}

/// A mail server that remembers, and fails when told to.
#[derive(Default)]
pub struct FakeNotifications {
    sent: Mutex<Vec<String>>,
    failures: Mutex<usize>,
}

impl FakeNotifications {
    /// The next so many attempts fail.
    pub fn fail(&self, times: usize) {
        *self.failures.lock().unwrap_or_else(PoisonError::into_inner) = times;
    }

    /// Subjects of what was sent.
    pub fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Notifications for FakeNotifications {
    async fn send(&self, subject: &str, _text: &str) -> Result<(), DeliveryError> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if *failures > 0 {
            *failures -= 1;
            return Err(DeliveryError("told to fail".into()));
        }
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(subject.to_owned());
        Ok(())
    }
}
