//! Failpoints: steps at which a test has the process die as by SIGKILL, so that dying there is known to lose nothing.
//!
//! They are there in builds with the feature `failpoints`, which nothing but the tests of the program asks for; in a release passing one is nothing at all.
//! There `FAILPOINT=relay-published:3` in the environment ends the process when it comes to that step for the third time.

macro_rules! failpoints {
    ($($(#[doc = $meaning:literal])+ $point:ident = $name:literal),* $(,)?) => {
        /// A step, named for what has been done by then.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Failpoint {
            $($(#[doc = $meaning])+ $point,)*
        }

        impl Failpoint {
            /// Every one, in the order in which a command comes by.
            pub const ALL: &[Self] = &[$(Self::$point),*];

            /// What it is called in the environment.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

failpoints! {
    /// The consumer has a page of messages, and has done nothing with it.
    PageReceived = "page-received",
    /// The consumer has read what the messages of a page say; none has had its effect.
    PageRead = "page-read",
    /// A unit of work, or a command that is decided ahead, has what it needs at hand; nothing has changed.
    UnitLoaded = "unit-loaded",
    /// A unit of work has decided; nothing is written.
    UnitDecided = "unit-decided",
    /// A unit of work is written and not committed.
    UnitWritten = "unit-written",
    /// A unit of work is committed, and nobody was told.
    UnitCommitted = "unit-committed",
    /// The lane has verdicts, and has answered nobody.
    VerdictsReached = "verdicts-reached",
    /// A step of a large cut has had its effect, and the next is not begun.
    CutStepped = "cut-stepped",
    /// A message that could not be used is a dead letter, and is not acknowledged.
    LetterBuried = "letter-buried",
    /// Every message of a page has had its effect or is a dead letter; none is acknowledged.
    PageDone = "page-done",
    /// A page is acknowledged.
    PageAcknowledged = "page-acknowledged",
    /// The relay is about to number what was committed.
    Numbering = "numbering",
    /// What was committed has positions, and the sinks were not told.
    Numbered = "numbered",
    /// The relay has read events for a sink, which has none of them.
    RelayRead = "relay-read",
    /// A sink has taken events, and its progress is not stored.
    RelayPublished = "relay-published",
    /// The progress of a sink is stored.
    RelayAdvanced = "relay-advanced",
    /// The mail server has taken a mail, and it is not noted.
    MailSent = "mail-sent",
    /// It is noted that a mail was sent, and the progress of mail is not stored.
    MailNoted = "mail-noted",
    /// An event is about to be sent to a webhook.
    WebhookSending = "webhook-sending",
    /// A webhook's receiver has taken an event, and its progress is not stored.
    WebhookTaken = "webhook-taken",
    /// The progress of a webhook is stored.
    WebhookAdvanced = "webhook-advanced",
    /// A dead letter is about to be tried again.
    LetterRetrying = "letter-retrying",
    /// A dead letter has had its effect, and is kept still.
    LetterUsed = "letter-used",
    /// A dead letter has had its effect and is kept no longer, and nobody was told.
    LetterDropped = "letter-dropped",
}

#[cfg(not(feature = "failpoints"))]
impl Failpoint {
    /// Whatever has this done goes on.
    #[inline]
    pub const fn pass(self) {}
}

#[cfg(feature = "failpoints")]
impl Failpoint {
    /// Whatever has this done goes on, unless the process is to die here.
    pub fn pass(self) {
        armed::pass(self);
    }
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::Failpoint;

    /// Where the process dies, and how often it is still to come there.
    static ARMED: LazyLock<Option<(Failpoint, AtomicU64)>> = LazyLock::new(|| {
        let text = std::env::var("FAILPOINT").ok()?;
        let (name, times) = text.split_once(':').expect("FAILPOINT is a name and a number");
        let point = Failpoint::ALL.iter().find(|point| point.name() == name).expect("FAILPOINT names a failpoint");
        Some((*point, AtomicU64::new(times.parse().expect("FAILPOINT ends in a number"))))
    });

    pub(super) fn pass(point: Failpoint) {
        if let Some((armed, left)) = &*ARMED
            && *armed == point
            && left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            eprintln!("dies at {}", point.name());
            kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
        }
    }
}
