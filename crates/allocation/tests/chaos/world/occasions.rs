//! Steps that a program comes to only if somebody gives it the occasion: a large cut, a mail, a dead letter that is tried again.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Output;

use allocation_service_layer::failpoints::Failpoint;
use allocation_service_layer::handlers::CUT_STEP;
use allocation_testing::eventually;
use allocation_testing::program::{Program, command};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Database, LIFE, PROGRAM, World};
use crate::commands::message;

/// The product that batches are cut of.
const CUT: &str = "CUT";
/// Its lines: more than lose their place in one step.
const LINES: usize = CUT_STEP + 4;
/// The most lines of an order.
const ORDER: usize = 1_000;
/// The product that messages are about which come before their batches.
const LATE: &str = "LATE";
/// Units in each of these batches, one of which was found damaged.
const UNITS: usize = 10;
/// What a mail says first.
const SUBJECT: &str = "Subject: Out of stock for SKU ";

/// Occasions that there were.
#[derive(Default)]
pub(super) struct Occasions {
    cuts: usize,
    letters: usize,
    shortages: usize,
    /// Products of which too much was asked for, and refused.
    refused: Vec<String>,
}

impl World {
    async fn declare(&self, program: &Program, sku: &str, batch: &str, units: usize) {
        self.insist(program, &format!("/v1/products/{sku}/batches/{batch}"), &json!({"qty": units})).await;
    }

    /// Asks for something until there is an answer, which must be that it was done.
    async fn insist(&self, program: &Program, path: &str, body: &Value) {
        let ask = async || self.people.client.put(program.url(path)).json(body).send().await.ok();
        let answer = eventually("an answer", ask).await;
        assert!(answer.status().is_success(), "{path}: {}\n{}", answer.status(), program.log());
    }

    /// A life that ends between two steps of a large cut. The next one goes on with it, since it is asked for again, or since its message was not
    /// acknowledged.
    pub(crate) async fn die_in_a_cut(&mut self) {
        let (nth, point) = (self.occasions.cuts, Failpoint::CutStepped);
        self.occasions.cuts += 1;
        let (cut, other) = if nth.is_multiple_of(2) { ("a", "b") } else { ("b", "a") };
        let as_message = nth.is_multiple_of(2) == matches!(self.database, Database::Postgres(..));
        let program = self.begin(Some(format!("{}:1", point.name()))).await.unwrap();
        if nth == 0 {
            self.declare(&program, CUT, cut, LINES).await;
            self.order_lines(&program).await;
        }
        // Whoever loses a place finds another here.
        self.declare(&program, CUT, other, LINES).await;
        if as_message {
            let data = json!({"sku": CUT, "ref": cut, "qty": 0});
            self.give(vec![message(&format!("cut{nth}"), "declare_batch", &data)]).await;
        } else {
            let path = format!("/v1/products/{CUT}/batches/{cut}");
            let asked = self.people.client.put(program.url(&path)).json(&json!({"qty": 0})).send().await;
            assert!(asked.is_err(), "it was answered: {asked:?}\n{}", program.log());
        }
        let ended = tokio::time::timeout(LIFE, program.ended()).await.expect("it dies");
        self.has_died_at(point, &ended);

        let program = self.begin(None).await.unwrap();
        if !as_message {
            self.declare(&program, CUT, cut, 0).await;
        }
        let product = eventually("the rest of the cut", async || {
            let product = self.get(&program, &format!("/v1/products/{CUT}")).await;
            // A batch without units is history.
            let batches = product["batches"].as_array().unwrap();
            batches.iter().all(|batch| batch["ref"] != cut).then_some(product)
        })
        .await;
        let found = [&product["on_hand"], &product["allocated"], &product["backordered"]];
        assert_eq!(found, [json!(LINES), json!(LINES), json!(0)].each_ref(), "{product}");
        self.is_killed(program).await;
    }

    async fn order_lines(&self, program: &Program) {
        for first in (0..LINES).step_by(ORDER) {
            let line = |n: usize| json!({"sku": CUT, "line": n.to_string(), "qty": 1});
            let lines: Vec<Value> = (first..LINES.min(first + ORDER)).map(line).collect();
            self.insist(program, &format!("/v1/orders/cut{first}"), &json!({"lines": lines})).await;
        }
    }

    /// Has somebody ask for more than there is of a product that nobody was mailed about yet.
    pub(super) async fn run_short(&mut self, program: &Program) {
        let nth = self.occasions.shortages;
        self.occasions.shortages += 1;
        let (client, sku) = (&self.people.client, format!("SHORT-{nth}"));
        let batch = client.put(program.url(&format!("/v1/products/{sku}/batches/b"))).json(&json!({"qty": 1}));
        let order = client.put(program.url(&format!("/v1/orders/short{nth}")));
        let order = order.json(&json!({"lines": [{"sku": sku, "qty": 2}]}));
        if batch.send().await.is_ok_and(|answer| answer.status().is_success())
            && order.send().await.is_ok_and(|answer| answer.status() == StatusCode::CONFLICT)
        {
            self.occasions.refused.push(sku);
        }
    }

    /// Somebody was mailed about each product that too much was asked for of, and again only where something had died.
    pub(super) async fn assert_mails_were_sent(&mut self) {
        let mails = eventually("the last mail", async || {
            let mut mails: BTreeMap<String, usize> = BTreeMap::new();
            for mail in self.mail.mails() {
                let about = mail.content.lines().find_map(|line| line.strip_prefix(SUBJECT)).expect("a subject");
                *mails.entry(about.to_owned()).or_default() += 1;
            }
            self.occasions.refused.iter().all(|sku| mails.contains_key(sku)).then_some(mails)
        })
        .await;
        self.tally.mails = mails.values().sum();
        self.tally.mails_again = self.tally.mails - mails.len();
        let (again, kills) = (self.tally.mails_again, self.tally.kills());
        assert!(again <= kills, "{again} mails came again, and only {kills} were killed: {mails:?}");
        let unnoted = self.tally.killed_at(Failpoint::MailSent.name());
        assert!(again >= unnoted, "{again} mails came again, of {unnoted} that were sent and not noted: {mails:?}");
    }

    /// A message comes before its batch, and is a dead letter. It is tried again, by a program that dies at this step, and then by one that does not.
    pub(crate) async fn die_at_a_letter(&mut self, point: Failpoint) {
        let batch = format!("late{:05}", self.occasions.letters);
        self.occasions.letters += 1;
        let data = json!({"sku": LATE, "ref": batch, "kind": "damaged", "qty": 1, "reason": batch});
        self.give(vec![message(&batch, "adjust_batch", &data)]).await;
        let program = self.begin(None).await.unwrap();
        let letter = eventually("a dead letter", async || {
            let listed = self.run(&["dead-letters", "list"]).await;
            let (number, _) = listed.lines().find(|line| line.contains(&batch))?.split_once(' ')?;
            Some(number.to_owned())
        })
        .await;
        self.declare(&program, LATE, &batch, UNITS).await;
        self.is_killed(program).await;

        let died = self.retry(&letter, Some(point)).await;
        let said = String::from_utf8_lossy(&died.stderr);
        assert_eq!(died.status.signal(), Some(9), "{said}");
        assert!(said.lines().any(|line| line == format!("dies at {}", point.name())), "{said}");
        self.tally.kill(point.name());
        let said = String::from_utf8(self.retry(&letter, None).await.stdout).unwrap();
        let now = if point == Failpoint::LetterDropped { "there is no such dead letter" } else { "done" };
        assert_eq!(said, format!("{letter}: {now}\n"));
    }

    async fn retry(&self, letter: &str, dying: Option<Failpoint>) -> Output {
        let mut retry = command(Path::new(PROGRAM), &self.environment(), &["dead-letters", "retry", letter]);
        retry.envs(dying.map(|point| ("FAILPOINT", format!("{}:1", point.name()))));
        retry.output().await.unwrap()
    }

    /// What came too early has had its effect once each.
    pub(super) async fn assert_letters_acted_once(&self, program: &Program) {
        if self.occasions.letters > 0 {
            let product = self.get(program, &format!("/v1/products/{LATE}")).await;
            assert_eq!(product["on_hand"], json!(self.occasions.letters * (UNITS - 1)), "{product}");
        }
    }
}
