//! The life of the process: its parts, the signals it is sent, and the order in which all comes to an end.

use std::time::Duration;

use allocation_service_layer::group_commit::LaneHandle;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::config::Stopping;

/// Files that are for other things than connections to the web API: the store's, the brokers', the log.
const OTHER_FILES: usize = 256;

/// The parts of the process, and what tells each to end.
///
/// At the end readiness turns red, and requests are still taken for a while. Then nothing new is begun, and what is under way ends. The lane does all that it has
/// accepted. Last end those who carry on what came of it. All of it has its time; a second signal ends the process at once.
pub(crate) struct Life {
    /// Cancelled first: no more requests are to be sent here.
    pub(crate) leaving: CancellationToken,
    /// Cancelled then: nothing new is to be begun.
    pub(crate) stop: CancellationToken,
    /// Cancelled last: all is done.
    pub(crate) end: CancellationToken,
    /// Parts that take work on. They end once told to stop.
    workers: JoinSet<()>,
    /// Parts that carry on what the others have done. They end at the end.
    carriers: JoinSet<()>,
    interrupt: Signal,
    terminate: Signal,
}

impl Life {
    /// Begins to listen for signals.
    pub(crate) fn begin() -> Result<Self, Failure> {
        Ok(Self {
            leaving: CancellationToken::new(),
            stop: CancellationToken::new(),
            end: CancellationToken::new(),
            workers: JoinSet::new(),
            carriers: JoinSet::new(),
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Runs a part until it is told to stop.
    pub(crate) fn until_stop<P: Future<Output = ()> + Send + 'static>(
        &mut self,
        part: impl FnOnce(CancellationToken) -> P,
    ) {
        let part = part(self.stop.clone());
        self.workers.spawn(part);
    }

    /// Runs a part until all others have ended and the lane has.
    pub(crate) fn until_end<P: Future<Output = ()> + Send + 'static>(
        &mut self,
        part: impl FnOnce(CancellationToken) -> P,
    ) {
        let part = part(self.end.clone());
        self.carriers.spawn(part);
    }

    /// Runs until SIGINT or SIGTERM, or until a part fails, and then until all has ended. `lane` is the last handle to it, `drained` tells that it has
    /// ended.
    pub(crate) async fn live(
        mut self,
        lane: LaneHandle,
        drained: oneshot::Receiver<()>,
        Stopping { notice, most }: Stopping,
    ) -> Result<(), Failure> {
        let mut outcome = Ok(());
        let notice = tokio::select! {
            // Somebody at a terminal: they are not to wait for a balancer to notice.
            _ = self.interrupt.recv() => Duration::ZERO,
            _ = self.terminate.recv() => notice,
            Some(part) = self.workers.join_next() => {
                outcome = part.map_err(Failure::from);
                Duration::ZERO
            }
            Some(part) = self.carriers.join_next() => {
                outcome = part.map_err(Failure::from);
                Duration::ZERO
            }
        };
        tracing::info!("stopping");
        self.leaving.cancel();
        let stopping = async {
            tokio::time::sleep(notice).await;
            self.stop.cancel();
            while self.workers.join_next().await.is_some() {}
            // Every handle is gone by now: the lane finishes what it has accepted and ends.
            drop(lane);
            let _ = drained.await;
            self.end.cancel();
            while self.carriers.join_next().await.is_some() {}
        };
        tokio::select! {
            () = stopping => {}
            () = tokio::time::sleep(most) => tracing::warn!("some work did not end in time, and is cut off"),
            _ = self.interrupt.recv() => std::process::exit(130),
            _ = self.terminate.recv() => std::process::exit(143),
        }
        tracing::info!("stopped");
        outcome
    }
}

/// Has this process open as many files as it may, as each connection is one, and gives how many connections there may be: as many as wanted, if files suffice.
pub(crate) fn allow_connections(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "can't raise the number of files that may be open");
            limit.current
        }
    };
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let enough = files.saturating_sub(OTHER_FILES).max(1);
    if enough < wanted {
        tracing::warn!(
            "CONNECTIONS={wanted} is more than this process may have open ({files} files; see `ulimit -Hn`): {enough} are taken at most"
        );
    }
    enough.min(wanted)
}
