//! The tables of states, over all pairs.

use allocation_domain::states::{self, Answer, BatchCommand, LineCommand};
use allocation_domain::{BatchState, LineState};

fn sign(answer: Answer) -> &'static str {
    match answer {
        Answer::Yes => "yes",
        Answer::Same => "–",
        Answer::AsNew => "as new",
        Answer::No => "✗",
    }
}

#[test]
fn a_line_allows_what_its_table_says() {
    let states = [
        LineState::Held,
        LineState::Allocated,
        LineState::Backordered,
        LineState::Shipped,
        LineState::Lapsed,
        LineState::Cancelled,
    ];
    let table = [
        (LineCommand::AskAgain, ["–", "–", "–", "–", "as new", "✗"]),
        (LineCommand::Confirm, ["yes", "–", "–", "–", "✗", "✗"]),
        (LineCommand::Extend, ["yes", "✗", "✗", "✗", "✗", "✗"]),
        (LineCommand::Pick, ["✗", "yes", "yes", "✗", "✗", "✗"]),
        (LineCommand::Ship, ["✗", "yes", "yes", "✗", "✗", "✗"]),
        (LineCommand::Change, ["yes", "yes", "yes", "✗", "✗", "✗"]),
        (LineCommand::Cancel, ["yes", "yes", "yes", "✗", "–", "–"]),
        (LineCommand::Return, ["✗", "yes", "yes", "yes", "✗", "✗"]),
    ];
    assert_eq!(table.map(|(command, _)| command), LineCommand::ALL);
    assert!(LineState::ALL.iter().all(|state| states.contains(state)));
    for (command, expected) in table {
        assert_eq!(states.map(|state| sign(states::line(command, state))), expected, "{command:?}");
    }
}

#[test]
fn a_batch_allows_what_its_table_says() {
    let states = [BatchState::Expected, BatchState::OnHand, BatchState::Expired, BatchState::Cancelled];
    let table = [
        (BatchCommand::ChangeQuantity, ["yes", "yes", "yes", "✗"]),
        (BatchCommand::ChangeEta, ["yes", "✗", "✗", "✗"]),
        (BatchCommand::ChangeExpiry, ["yes", "yes", "yes", "✗"]),
        (BatchCommand::Receive, ["yes", "✗", "✗", "✗"]),
        (BatchCommand::Cancel, ["yes", "✗", "✗", "–"]),
        (BatchCommand::Quarantine, ["✗", "yes", "✗", "✗"]),
        (BatchCommand::Adjust, ["✗", "yes", "yes", "✗"]),
        (BatchCommand::Return, ["✗", "yes", "yes", "✗"]),
        (BatchCommand::Ship, ["✗", "yes", "✗", "✗"]),
        (BatchCommand::Transfer, ["✗", "yes", "✗", "✗"]),
    ];
    assert_eq!(table.map(|(command, _)| command), BatchCommand::ALL);
    for (command, expected) in table {
        assert_eq!(states.map(|state| sign(states::batch(command, state))), expected, "{command:?}");
    }
}
