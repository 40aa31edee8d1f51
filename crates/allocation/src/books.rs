//! Checks the books, and mends them.

use std::process::ExitCode;

use allocation_domain::Command;
use allocation_domain::commands::RepairBooks;
use allocation_service_layer::Message;
use allocation_service_layer::handlers::Reply;
use allocation_service_layer::verify::{self, Findings};
use allocation_service_layer::wire::Cause;

use crate::Failure;
use crate::bootstrap::Store;
use crate::config::Config;

/// Says where the tables differ from what the event log tells.
pub(crate) async fn verify(config: &Config) -> Result<ExitCode, Failure> {
    Ok(told(&check(&Store::open_known(config).await?).await?))
}

/// The same; then, if told to, mends the tables product by product, and checks again.
pub(crate) async fn repair(config: &Config, apply: bool) -> Result<ExitCode, Failure> {
    let store = Store::open_known(config).await?;
    let findings = check(&store).await?;
    show(&findings);
    if findings.balanced() {
        return Ok(ExitCode::SUCCESS);
    }
    if !apply {
        println!("nothing was changed; `allocation repair --apply` mends the tables from the log");
        return Ok(ExitCode::from(1));
    }
    let ambient = &store.ambient;
    let correlation = ambient.entropy.uuid(ambient.clock.now()).to_string().into();
    let cause = Cause { correlation, actor: "repair".into(), traceparent: None };
    for sku in &findings.differing {
        let command = Command::RepairBooks(RepairBooks { sku: sku.clone() });
        match store.handle(Message::new(command, cause.clone())).await? {
            Ok(Reply::Repaired(differences)) => println!("{sku}: mended, {} differences", differences.len()),
            Ok(_) => println!("{sku}: nothing to mend"),
            Err(rejection) => println!("{sku}: not mended: {rejection}"),
        }
    }
    Ok(told(&check(&store).await?))
}

pub(crate) async fn check(store: &Store) -> Result<Findings, Failure> {
    let reader = store.reader();
    reader.ready().await?;
    Ok(verify::verify(reader.as_ref()).await?)
}

/// Shows them, and gives the exit status that goes with them.
pub(crate) fn told(findings: &Findings) -> ExitCode {
    show(findings);
    ExitCode::from(u8::from(!findings.balanced()))
}

fn show(findings: &Findings) {
    for difference in &findings.differences {
        println!("{difference}");
    }
    println!(
        "{} products, {} batches, {} lines, {} events{}: {} units allocated, {} held, {} backordered; {}",
        findings.products,
        findings.batches,
        findings.lines,
        findings.events,
        if findings.archived > 0 { format!(" and {} archived ones", findings.archived) } else { String::new() },
        findings.allocated,
        findings.held,
        findings.backordered,
        match findings.differences.len() {
            0 => "the books balance".to_owned(),
            1 => "1 difference".to_owned(),
            many => format!("{many} differences"),
        }
    );
}
