//! Shows dead letters, tries them again, or drops them.

use std::process::ExitCode;
use std::sync::Arc;

use allocation_entrypoints::consumer::Retried;
use allocation_service_layer::ports::dead_letters::{DeadLetter, DeadLetters, KeptLetter};
use allocation_service_layer::wire::instant_text;
use clap::Subcommand;

use crate::Failure;
use crate::bootstrap::Store;
use crate::config::Config;

/// How many are read at once.
const PAGE: usize = 1_000;
/// How much of a body a list shows.
const GLIMPSE: usize = 60;

/// What is to be done with messages that could not be used.
#[derive(Subcommand)]
pub(crate) enum What {
    /// List them, newest first
    List,
    /// Show one with its headers and its body
    Show {
        /// Its number
        id: u64,
    },
    /// Try them again, oldest first: what has its effect now is kept no longer; exit status 1 if any is kept
    Retry(Which),
    /// Keep them no longer
    Drop(Which),
}

/// Which of them.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// Their numbers
    ids: Vec<u64>,
    /// All of them
    #[arg(long)]
    all: bool,
}

/// Does it. Exit status 1: one was not there, or could still not be used.
pub(crate) async fn run(config: &Config, what: &What) -> Result<ExitCode, Failure> {
    let store = Store::open_known(config).await?;
    let letters = store.dead_letters();
    match what {
        What::List => {
            let mut before = None;
            loop {
                let page = letters.letters(before, PAGE).await?;
                page.iter().for_each(glimpse);
                let Some(last) = page.last() else { break };
                before = Some(last.id);
            }
            println!("{} dead letters", letters.count_letters().await?);
            Ok(ExitCode::SUCCESS)
        }
        What::Show { id } => {
            let found = letters.letter(*id).await?;
            Ok(found.as_ref().map_or_else(|| unknown(*id), show))
        }
        What::Retry(which) => retry(config, &store, which).await,
        What::Drop(which) => {
            let mut code = ExitCode::SUCCESS;
            for id in numbers(letters.as_ref(), which).await? {
                if letters.drop_letter(id).await? {
                    println!("{id}: dropped");
                } else {
                    code = unknown(id);
                }
            }
            Ok(code)
        }
    }
}

async fn retry(config: &Config, store: &Store, which: &Which) -> Result<ExitCode, Failure> {
    let letters = store.dead_letters();
    let lane = store.start_lane(config.limits)?;
    let consumer = store.consumer(Arc::new(lane.handle.clone()));
    drop(lane.handle);
    let mut code = ExitCode::SUCCESS;
    for id in numbers(letters.as_ref(), which).await? {
        let Some(kept) = letters.letter(id).await? else {
            code = unknown(id);
            continue;
        };
        match consumer.retry(&kept).await? {
            Retried::Done => println!("{id}: done"),
            Retried::Kept(reason) => {
                println!("{id}: kept: {reason}");
                code = ExitCode::from(1);
            }
        }
    }
    drop(consumer);
    let _ = lane.ended.await;
    Ok(code)
}

/// The numbers of those that are meant, oldest first.
async fn numbers(letters: &dyn DeadLetters, which: &Which) -> Result<Vec<u64>, Failure> {
    if !which.all {
        return Ok(which.ids.clone());
    }
    let mut numbers = Vec::new();
    loop {
        let page = letters.letters(numbers.last().copied(), PAGE).await?;
        if page.is_empty() {
            numbers.reverse();
            return Ok(numbers);
        }
        numbers.extend(page.iter().map(|kept| kept.id));
    }
}

fn unknown(id: u64) -> ExitCode {
    println!("{id}: there is no such dead letter");
    ExitCode::from(1)
}

/// A text on one line, whatever is in it.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn glimpse(KeptLetter { id, times, letter }: &KeptLetter) {
    let DeadLetter { received_at, source, channel, body, reason, .. } = letter;
    let body = line(&String::from_utf8_lossy(body));
    let beginning: String = body.chars().take(GLIMPSE).collect();
    let more = if beginning.len() < body.len() { "…" } else { "" };
    let at = instant_text(*received_at);
    println!("{id}  {at}  {source} {}  {times}x  {}  {beginning}{more}", line(channel), line(reason));
}

fn show(KeptLetter { id, times, letter }: &KeptLetter) -> ExitCode {
    let DeadLetter { received_at, source, channel, headers, body, reason } = letter;
    println!("number:   {id}\nreceived: {}\nsource:   {source}", instant_text(*received_at));
    println!("channel:  {}\ngiven up: {times}x\nreason:   {}", line(channel), line(reason));
    for (name, value) in headers {
        println!("header:   {}: {}", line(name), line(value));
    }
    println!("\n{}", String::from_utf8_lossy(body));
    ExitCode::SUCCESS
}
