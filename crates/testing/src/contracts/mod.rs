//! What every store must do, as tests that are run on each of them: fake, SQLite, PostgreSQL.

mod api_keys;
mod archive;
mod dead_letters;
mod event_log;
mod histories;
mod holders;
mod keys;
mod memory;
mod movements;
mod reader;
mod repository;
mod unit_of_work;
mod webhooks;
mod year;

use std::sync::Arc;

use allocation_domain::{Command, Event, Product};
use allocation_service_layer::handlers::Verdict;
use allocation_service_layer::metrics::Metrics;
use allocation_service_layer::ports::api_keys::ApiKeys;
use allocation_service_layer::ports::archive::Archive;
use allocation_service_layer::ports::clock::Clock;
use allocation_service_layer::ports::database::Database;
use allocation_service_layer::ports::dead_letters::DeadLetters;
use allocation_service_layer::ports::event_log::EventLog;
use allocation_service_layer::ports::housekeeping::Housekeeping;
use allocation_service_layer::ports::reader::{Reader, StoredLine};
use allocation_service_layer::ports::webhooks::Webhooks;
use allocation_service_layer::verify::verify;
use allocation_service_layer::wire::parse_event;
use allocation_service_layer::{MessageBus, TimeZones};
pub use api_keys::*;
pub use archive::*;
pub use dead_letters::*;
pub use event_log::*;
pub use histories::*;
pub use holders::*;
pub use keys::*;
pub use memory::*;
pub use movements::*;
pub use reader::*;
pub use repository::*;
pub use unit_of_work::*;
pub use webhooks::*;
pub use year::*;

use crate::clock::{CountingEntropy, ManualClock};
use crate::shorthand::message;

/// All that a store is.
pub trait Store:
    Database + Reader + EventLog + Archive + DeadLetters + Housekeeping + Webhooks + ApiKeys + Clone
{
}

impl<S> Store for S where
    S: Database + Reader + EventLog + Archive + DeadLetters + Housekeeping + Webhooks + ApiKeys + Clone
{
}

/// A store, empty and ready, and the clock it goes by.
pub struct Fixture<S> {
    /// The store.
    pub store: S,
    /// Its clock.
    pub clock: Arc<ManualClock>,
    /// What must live as long as the store.
    pub keep: Option<tempfile::TempDir>,
}

impl<S: Store> Fixture<S> {
    /// A bus over the store.
    pub fn bus(&self) -> MessageBus<S> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        MessageBus::new(self.store.clone(), clock, Arc::new(CountingEntropy::default()), Metrics::new())
    }

    /// Has commands handled, each in a unit of work of its own.
    pub async fn handle(&self, commands: impl IntoIterator<Item = Command>) -> Vec<Verdict> {
        let bus = self.bus();
        let mut verdicts = Vec::new();
        for command in commands {
            verdicts.push(bus.handle(message(command)).await.expect("the store works"));
        }
        verdicts
    }

    /// A product as readers see it.
    pub async fn product(&self, of: &str) -> Product {
        let found = self.store.products_named(&[crate::shorthand::sku(of)]).await.expect("the store works");
        found.into_iter().next().expect("a known product")
    }

    /// The lines of an order as they are stored.
    pub async fn lines_of(&self, order_id: &str) -> Vec<StoredLine> {
        let order_id = crate::shorthand::order(order_id);
        self.store.order(&order_id, &TimeZones::default()).await.expect("the store works").0
    }

    /// Everything in the feed: SKU, sequence and event.
    pub async fn events(&self) -> Vec<(String, u64, Event)> {
        while self.store.number(1_000).await.expect("the store works") > 0 {}
        let page = EventLog::read(&self.store, 0, 100_000).await.expect("the store works");
        let parse = |body: &str| parse_event(body).expect("an event of ours");
        let wire = page.events.iter().map(|event| parse(&event.body));
        wire.map(|wire| (wire.sku.to_string(), wire.sequence, wire.event)).collect()
    }

    /// Fails the test when the books do not balance.
    pub async fn assert_balanced(&self) {
        let findings = verify(&self.store).await.expect("the store works");
        assert!(findings.balanced(), "{:#?}", findings.differences);
        self.assert_ledgers_agree().await;
    }
}

/// Runs every contract on a store. `$fixture` is an async function that gives a [`Fixture`] with an empty, migrated store.
#[macro_export]
macro_rules! store_contract {
    ($fixture:path) => {
        $crate::store_contract!($fixture:
            a_product_is_loaded_as_it_was_saved,
            lines_are_loaded_by_name_only,
            an_empty_batch_is_loaded_by_name_only,
            what_does_not_exist_is_left_out,
            losers_come_in_the_order_in_which_they_lose_their_place,
            losers_that_are_being_picked_come_last,
            those_who_wait_come_by_seniority_and_only_if_they_could_take_something,
            holds_are_found_once_they_have_ended,
            what_is_due_anywhere_is_found_page_by_page,
            a_line_is_kept_with_its_terms_and_wherever_its_units_are,
            settings_locations_and_what_is_little_are_kept,
            what_a_line_accepts_of_locations_is_kept,
            what_is_being_picked_has_left_and_came_back_is_kept,
            a_closed_batch_is_brought_by_name,
            the_lines_of_an_order_are_found_over_all_products,
            the_lines_of_an_order_are_read_as_of_one_moment,
            keys_are_compared_byte_for_byte,
            keys_may_hold_any_text,
            the_largest_numbers_are_kept,
            a_request_key_is_known_once_it_is_committed,
            a_request_key_is_forgotten_by_a_rollback,
            a_request_key_remembered_twice_is_a_conflict,
            request_keys_are_compared_byte_for_byte,
            a_request_key_is_forgotten_when_it_is_old,
            a_request_under_a_known_key_is_not_done_again,
            a_key_has_so_many_holds_in_force,
            each_line_that_is_held_is_a_hold,
            a_hold_stays_whose_it_is,
            many_that_ask_at_once_have_no_more_holds_than_one_may,
            whose_a_hold_was_is_forgotten,
            a_stale_version_is_a_conflict,
            a_product_made_twice_is_a_conflict,
            a_unit_of_work_that_is_dropped_leaves_nothing,
            a_unit_of_work_that_is_committed_leaves_everything,
            what_is_pending_is_written_before_the_store_is_asked,
            a_lock_is_waited_for_and_then_fresh_counters_are_read,
            two_racing_for_the_last_units_never_promise_one_twice,
            many_racing_on_many_products_never_deadlock_for_good,
            a_large_cut_goes_on_in_steps_until_it_is_done,
            nothing_gets_in_front_of_the_rest_of_a_large_cut,
            a_large_cut_of_what_was_seen_ends_where_somebody_else_declares_something,
            orders_for_known_products_load_nothing_and_are_promised_as_ever,
            what_another_copy_has_changed_is_noticed,
            nobody_is_refused_for_what_was_so_before,
            an_order_that_is_known_is_answered_as_it_is_for_known_products_too,
            a_message_about_a_known_product_acts_once,
            a_hold_on_a_known_product_ends_at_its_second,
            a_known_product_has_the_time_of_the_store,
            the_feed_has_every_event_once_and_each_products_in_order,
            the_feed_is_read_in_pages,
            a_sink_goes_on_where_it_was,
            a_lease_has_one_holder_until_it_expires,
            a_lease_that_is_released_is_free,
            the_last_notification_is_remembered,
            dead_letters_are_kept_newest_first,
            a_letter_that_comes_again_is_the_same_letter,
            a_letter_that_is_dropped_is_gone,
            a_webhook_is_kept_with_all_that_is_known_of_it,
            a_webhook_is_changed_by_whoever_knows_its_newest_form,
            a_webhook_that_is_removed_takes_its_progress_with_it,
            an_api_key_is_kept_with_all_that_is_known_of_it,
            an_api_key_that_replaces_others_ends_them_in_the_same_step,
            an_api_key_is_revoked_once,
            the_last_use_of_an_api_key_never_goes_back,
            products_are_listed_in_byte_order,
            sums_are_over_all_products,
            who_waits_is_served_by_the_day,
            a_products_lines_are_listed_newest_first,
            an_order_is_read_with_its_batches_dates,
            a_shipment_knows_its_products,
            the_books_balance_after_everything,
            each_movement_tells_what_its_batch_came_to,
            a_page_of_a_long_ledger_begins_where_balances_were_noted,
            a_batchs_ledger_is_read_from_its_first_event_to_its_last,
            a_ledger_asked_beyond_its_end_is_empty,
            a_product_put_in_place_anew_keeps_its_ledger,
            the_books_balance_after_every_step_of_archiving,
            archiving_goes_on_where_it_ended,
            only_what_is_old_leaves_the_log,
            what_a_sink_has_not_seen_stays_in_the_log,
            a_sink_that_is_new_is_known_from_then_on,
            an_old_request_is_answered_when_its_events_are_archived,
            tables_are_mended_from_what_was_archived,
            a_ledger_begins_where_archiving_ended,
            positions_go_on_after_everything_was_archived,
            a_page_of_the_log_is_of_one_moment,
            of_two_that_archive_at_once_one_is_refused,
            who_is_overtaken_while_archiving_is_told_so,
            orders_come_in_while_events_are_archived,
        );
    };
    ($fixture:path: $($contract:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $contract() {
            $crate::contracts::$contract($fixture().await).await;
        }
    )*};
}

/// Runs random histories on a store, and the model beside it.
#[macro_export]
macro_rules! random_histories {
    ($fixture:path) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn a_random_history_goes_as_the_model_says() {
            $crate::contracts::a_random_history_goes_as_the_model_says($fixture).await;
        }
    };
}
