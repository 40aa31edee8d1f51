//! Importing orders from a file, against the bare loop of the same minute.

use std::fmt::Write;

use crate::Outcome;
use crate::controls::bare;
use crate::harness::Bench;
use crate::load::sku;
use crate::report::real;
use crate::store::On;

const ORDERS: u64 = 200_000;

/// The name of its figure.
pub(crate) fn figure(on: On) -> String {
    format!("{}, import of 200,000 orders, one SKU", on.name())
}

/// The name of its control's figure.
pub(crate) fn control(on: On) -> String {
    format!("beside it: {}", bare::figure(on))
}

pub(crate) async fn run(bench: &mut Bench) -> Outcome<()> {
    let file = bench.folder().join("orders.csv");
    let mut text = "order_id,sku,qty\n".to_owned();
    let (prefix, sku) = (bench.prefix(), sku(1));
    for order in 1..=ORDERS {
        writeln!(text, "{prefix}-{order},{sku},1")?;
    }
    std::fs::write(&file, text)?;
    let rounds = bench.options.few_rounds();
    for round in 1..=rounds {
        for on in On::BOTH {
            bench.progress(&format!("import, round {round} of {rounds}: {}", on.name()));
            let rate = bare::rate(bench, on).await?;
            bench.figures.add(&control(on), "lines/s", rate);
            let mut store = bench.store(on).await?;
            let path = file.to_string_lossy();
            let arguments = ["import", "orders", &*path];
            let (said, took) = bench.timed(store.run(bench, &arguments)).await?;
            store.promised = ORDERS;
            if !said.contains(&format!("{ORDERS} promised")) {
                bench.fail(format!("{on:?}: not all of the file was promised: {said}"));
            }
            bench.check(&store).await?;
            store.remove().await?;
            bench.figures.add(&figure(on), "lines/s", real(ORDERS) / took);
        }
    }
    Ok(std::fs::remove_file(file)?)
}
