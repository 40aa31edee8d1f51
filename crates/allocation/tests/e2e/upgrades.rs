//! Upgrades: copies of the former release go on, and start, while the next one migrates; and it takes nothing from them that they use.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use allocation_testing::eventually;
use futures_util::future::{join, join_all};

use crate::support::{On, Service, lamps, on_both_stores};

on_both_stores!(
    a_copy_goes_on_under_load_while_a_later_release_migrates,
    a_copy_that_is_not_served_by_the_schema_any_more_says_so,
);

const CLIENTS: usize = 8;

/// What a later release may do to the schema, each in a transaction of its own: it adds, and takes nothing away that those before it use.
const ADDS: [&str; 7] = [
    "CREATE TABLE gifts (reference TEXT NOT NULL PRIMARY KEY, note TEXT)",
    "ALTER TABLE lines ADD COLUMN gift TEXT",
    "ALTER TABLE products ADD COLUMN note TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE batches ADD COLUMN note TEXT",
    "ALTER TABLE events ADD COLUMN note TEXT",
    "CREATE INDEX lines_gifts ON lines (gift) WHERE gift IS NOT NULL",
    "INSERT INTO schema_migrations (version, name, checksum, serves) VALUES (998, 'gifts', '', 1)",
];

/// What it may do once nobody needs the former one.
const TAKES_AWAY: &str =
    "INSERT INTO schema_migrations (version, name, checksum, serves) VALUES (999, 'no former ones', '', 999)";

/// Has clients buy lamps, each after an answer again, until it is enough. All are promised.
async fn buy(service: &Service, orders: &str, promised: &AtomicUsize, enough: &AtomicBool) {
    let clients = (0..CLIENTS).map(async |client| {
        for n in 0.. {
            if enough.load(Ordering::Relaxed) {
                return;
            }
            service.order(&format!("{orders}{client}-{n}"), &[("LAMP", 1)]).await.expect(201);
            service.get("/readyz").await.expect(200);
            promised.fetch_add(1, Ordering::Relaxed);
        }
    });
    join_all(clients).await;
}

async fn some_more(promised: &AtomicUsize) {
    let before = promised.load(Ordering::Relaxed);
    eventually("some promises", async || (promised.load(Ordering::Relaxed) > before + 50).then_some(())).await;
}

async fn a_copy_goes_on_under_load_while_a_later_release_migrates(on: On) {
    let (store, service) = lamps(on, &[("b", 1_000_000, "")]).await;
    let (promised, enough) = (AtomicUsize::new(0), AtomicBool::new(false));
    let upgrade = async {
        some_more(&promised).await;
        let mut done = true;
        for step in ADDS {
            done &= store.tamper(step).await;
        }
        some_more(&promised).await;
        // Another copy of the former release starts, as when its machine is lost meanwhile.
        let late = store.serve().await;
        late.get("/readyz").await.expect(200);
        late.order("late", &[("LAMP", 1)]).await.expect(201);
        enough.store(true, Ordering::Relaxed);
        done
    };
    let ((), done) = join(buy(&service, "o", &promised, &enough), upgrade).await;
    let bought = u64::try_from(promised.into_inner()).unwrap() + 1;
    assert_eq!(service.product("LAMP").await["allocated"], bought);
    store.assert_balanced().await;
    let migrated = store.run(&["migrate"]).await;
    assert!(migrated.status.success() || !done, "{migrated:?}");
}

async fn a_copy_that_is_not_served_by_the_schema_any_more_says_so(on: On) {
    const WHY: &str = "migration 999, newer than this program";
    let (store, service) = lamps(on, &[("b", 10, "")]).await;
    if !store.tamper(TAKES_AWAY).await {
        return;
    }
    let answer = service.get("/readyz").await.expect(503);
    assert_eq!(answer.json()["type"], "urn:allocation:problem:not-ready");
    for migrate in ["on", "off"] {
        let ended = store.clone().with("MIGRATE", migrate).run(&["serve"]).await;
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success() && said.contains(WHY), "{said}");
    }
}

/// So many lines are there while the migrations of this release are applied.
fn rows() -> usize {
    if std::env::var_os("SOAK").is_some() { 10_000_000 } else { 100_000 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_migration_holds_a_table_up_for_long() {
    let (store, service) = lamps(On::Postgres, &[("b", 1_000_000, "")]).await;
    // Lines of nobody, for the time of the migration.
    let fill = format!(
        "INSERT INTO lines (sku, accepted, order_id, line, requested, placed, backordered, batch)
         SELECT 'FULL', n, n, '', 1, 1, 0, 'b' FROM generate_series(1, {}) n;
         DELETE FROM schema_migrations WHERE version > 1",
        rows()
    );
    assert!(store.tamper(&fill).await);
    let (promised, enough) = (AtomicUsize::new(0), AtomicBool::new(false));
    // Who writes to a table would fail if it had to wait for as long as this.
    let written = ["lines", "parts", "products", "batches", "events", "shipments"];
    let write = written.map(|table| format!("LOCK TABLE {table} IN ROW EXCLUSIVE MODE"));
    let write = format!("BEGIN; SET LOCAL lock_timeout = '100ms'; {}; COMMIT", write.join("; "));
    let writer = async {
        while !enough.load(Ordering::Relaxed) {
            assert!(store.tamper(&write).await);
        }
    };
    let upgrade = async {
        some_more(&promised).await;
        let migrated = store.run(&["migrate"]).await;
        assert!(migrated.status.success(), "{migrated:?}");
        some_more(&promised).await;
        enough.store(true, Ordering::Relaxed);
        String::from_utf8_lossy(&migrated.stderr).into_owned()
    };
    // Readiness is red meanwhile: this release needs all its migrations.
    let orders = async {
        for n in 0.. {
            if enough.load(Ordering::Relaxed) {
                return;
            }
            service.order(&format!("o{n}"), &[("LAMP", 1)]).await.expect(201);
            promised.fetch_add(1, Ordering::Relaxed);
        }
    };
    let (log, ((), ())) = join(upgrade, join(writer, orders)).await;
    assert!(log.contains("applied migration"), "{log}");
    service.get("/readyz").await.expect(200);
    assert!(store.tamper("DELETE FROM lines WHERE sku = 'FULL'").await);
    store.assert_balanced().await;
}
