//! How long the program takes from its start to being ready, and how large it is.

use crate::Outcome;
use crate::harness::Bench;
use crate::http::once;
use crate::report::real;
use crate::store::On;

const STARTS: usize = 10;

/// The name of its figure.
pub(crate) fn figure(on: On) -> String {
    format!("{}, start to ready", on.name())
}

/// The name of the figure of the program's size.
pub(crate) const SIZE: &str = "size of the program";

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    bench.progress("start to ready");
    for on in On::BOTH {
        let store = bench.store(on).await?;
        for _ in 0..STARTS {
            let work = async {
                let program = store.serve(bench).await;
                let answer = once(program.address(), "GET", "/readyz", "").await?;
                Ok((program, answer))
            };
            let ((program, answer), took) = bench.timed(work).await?;
            if answer.status != 200 {
                bench.fail(format!("{on:?}: listening, and not ready: {}", answer.body));
            }
            bench.stop(program).await;
            bench.figures.add(&figure(on), "ms", took * 1e3);
        }
        store.remove().await?;
    }
    let size = real(std::fs::metadata(&bench.program)?.len());
    bench.figures.add(SIZE, "MB", size / 1e6);
    Ok(())
}
