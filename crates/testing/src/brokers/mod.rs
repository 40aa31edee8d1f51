//! Brokers as a test sees them: a server of its own, a consumer of its events, and whatever can befall it.

mod nats;
mod rabbitmq;
mod redis;
mod told;

use async_trait::async_trait;

pub use self::nats::Nats;
pub use self::rabbitmq::Rabbit;
pub use self::redis::RedisStreams;
pub use self::told::Told;

/// A broker, with a consumer that was there before the first event.
///
/// The consumer is durable: what it has not acknowledged comes again.
#[async_trait]
pub trait Broker: Send {
    /// What the program is told of it.
    fn environment(&self) -> Vec<(String, String)>;

    /// Sends these messages to the program, and says whether the broker has them safe; else it may have some of them.
    async fn send(&mut self, messages: &[String]) -> bool;

    /// The next events, in order, and acknowledged; none when there are none at the moment, or no broker.
    async fn next(&mut self) -> Vec<String>;

    /// Has the consumer forget that it acknowledged the last page that was not empty.
    async fn redeliver(&mut self);

    /// Has the broker end in good order.
    fn take_away(&mut self);

    /// Starts it again with what it has kept.
    async fn bring_back(&mut self);

    /// Ends it without warning (SIGKILL).
    fn kill(&mut self);

    /// Has it lose everything, and come back.
    async fn forget(&mut self);

    /// Has it stand still: it answers nothing, and its connections stay open.
    fn pause(&mut self);

    /// Has it go on.
    fn resume(&mut self);

    /// Has it run out of memory or disk.
    async fn fill(&mut self);

    /// Gives it room again.
    async fn drain(&mut self);

    /// Has it refuse events.
    async fn refuse(&mut self);

    /// Has it take events again.
    async fn accept(&mut self);
}
