//! What the service needs of the outside world. Adapters implement these.

pub mod api_keys;
pub mod archive;
pub mod clock;
pub mod database;
pub mod dead_letters;
pub mod event_log;
pub mod event_publisher;
pub mod housekeeping;
pub mod notifications;
pub mod reader;
pub mod token_keys;
pub mod tracer;
pub mod webhooks;
