//! Real orders, kept through cuts, delays and cancellations.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use allocation_testing::real_orders::real_orders;

use crate::support::{On, Service, Store, at_once, later_date, on_both_stores};

on_both_stores!(every_promise_is_kept_or_accounted_for_through_cuts_delays_and_cancellations);

/// A row of the file of batches, as far as it has been declared.
struct Batch {
    sku: String,
    reference: String,
    qty: u64,
    eta: Option<String>,
}

impl Batch {
    /// The file was made years ago: its shipments are still to come here.
    fn read(row: &str) -> Self {
        let [reference, sku, qty, eta] = row.split(',').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let eta = eta.split_once('-').map(|(year, day)| format!("{}-{day}", year.parse::<u64>().unwrap() + 20));
        Self { sku: sku.into(), reference: reference.into(), qty: qty.parse().unwrap(), eta }
    }

    fn row(&self) -> String {
        format!("{},{},{},{}\n", self.reference, self.sku, self.qty, self.eta.as_deref().unwrap_or_default())
    }

    async fn declare(&self, service: &Service) {
        service.batch(&self.sku, &self.reference, json!({"qty": self.qty, "eta": self.eta})).await;
    }
}

/// What was asked for: units by order and SKU.
type Asked = BTreeMap<(String, String), u64>;

fn read_orders(text: &str) -> Asked {
    let mut asked = Asked::new();
    for row in text.lines().skip(1) {
        let [order_id, sku, qty, ..] = row.split(',').collect::<Vec<_>>()[..] else { panic!("{row}") };
        *asked.entry((order_id.into(), sku.into())).or_default() += qty.parse::<u64>().unwrap();
    }
    asked
}

/// Fails the test when the books do not balance, units were lost, or somebody waits in vain. Gives how many units wait.
async fn check(store: &Store, service: &Service, lines: usize, units: u64) -> u64 {
    let ((), said) = tokio::join!(service.assert_nobody_waits_in_vain(), store.assert_balanced());
    assert!(said.contains(&format!("{lines} lines, ")), "{said}");
    let number = |after: &str, before: &str| -> u64 {
        let (text, _) = said.split_once(before).unwrap();
        text.rsplit(after).next().unwrap().trim().parse().unwrap()
    };
    let (allocated, backordered) = (number("events:", "units allocated"), number("held,", "backordered"));
    assert_eq!(allocated + backordered, units, "{said}");
    backordered
}

async fn every_promise_is_kept_or_accounted_for_through_cuts_delays_and_cancellations(on: On) {
    let Some((batches, orders)) = real_orders() else { return };
    let text = std::fs::read_to_string(batches).unwrap();
    let mut batches: Vec<Batch> = text.lines().skip(1).map(Batch::read).collect();
    let asked = read_orders(&std::fs::read_to_string(&orders).unwrap());
    let (lines, mut units) = (asked.len(), asked.values().sum());

    let store = Store::new(on).await;
    let rows: String = batches.iter().map(Batch::row).collect();
    let (status, said, _) = store.import(&["batches"], &format!("ref,sku,qty,eta\n{rows}")).await;
    assert_eq!(status, Some(0), "{said}");
    let imported = store.run(&["import", "orders", "--when-short", "backorder", orders.to_str().unwrap()]).await;
    let said = String::from_utf8_lossy(&imported.stdout).into_owned();
    assert!(said.starts_with("5009 orders: 5009 promised, 0 known already, 0 refused"), "{said}");
    let service = store.serve().await;
    let waiting = check(&store, &service, lines, units).await;
    assert!(waiting > 0, "every tenth product is supplied with four fifths of its demand");

    // Every tenth batch is cut by half.
    for batch in batches.iter_mut().step_by(10) {
        batch.qty /= 2;
    }
    at_once(batches.iter().step_by(10), async |batch| batch.declare(&service).await).await;
    let cut = check(&store, &service, lines, units).await;
    assert!(cut > waiting);

    // Every seventh that has not arrived comes thirty days later.
    for batch in batches.iter_mut().step_by(7) {
        batch.eta = batch.eta.as_deref().and_then(|eta| later_date(eta, 30));
    }
    let delayed = batches.iter().step_by(7).filter(|batch| batch.eta.is_some());
    at_once(delayed, async |batch| batch.declare(&service).await).await;
    assert_eq!(check(&store, &service, lines, units).await, cut, "nobody asked for a day");

    // Every fifth order is cancelled.
    let cancelled: BTreeSet<&String> =
        asked.keys().map(|(order_id, _)| order_id).collect::<BTreeSet<_>>().into_iter().step_by(5).collect();
    at_once(&cancelled, async |order_id| {
        service.delete(&format!("/v1/orders/{order_id}")).await.expect(200);
    })
    .await;
    let gone = |order_id: &String| cancelled.contains(order_id);
    units -= asked.iter().filter(|((order_id, _), _)| gone(order_id)).map(|(_, units)| units).sum::<u64>();
    let left = check(&store, &service, lines, units).await;
    assert!(left < cut, "what they gave back went to those who wait");

    // Each line has the units it asked for, and the day on which the last of them comes: of every tenth product, as the sums hold for all.
    let etas: BTreeMap<(&str, &str), Option<&str>> =
        batches.iter().map(|batch| ((&*batch.sku, &*batch.reference), batch.eta.as_deref())).collect();
    let skus: BTreeSet<&String> = asked.keys().map(|(_, sku)| sku).collect();
    at_once(skus.into_iter().step_by(10), async |sku| {
        let lines = service.lines_of_product(sku).await;
        assert_eq!(lines.len(), asked.keys().filter(|(_, of)| of == sku).count());
        for line in lines {
            let key = (line["order_id"].as_str().unwrap().to_owned(), sku.clone());
            let number = |name: &str| line[name].as_u64().unwrap();
            assert_eq!(number("requested"), asked[&key], "{line}");
            let (state, whole) = match (gone(&key.0), number("backordered")) {
                (true, _) => ("cancelled", number("cancelled")),
                (false, 0) => ("allocated", number("allocated")),
                (false, waiting) => ("backordered", number("allocated") + waiting),
            };
            assert_eq!((line["state"].as_str().unwrap(), whole), (state, asked[&key]), "{line}");
            let placements = line["placements"].as_array().unwrap().iter();
            let days = placements.map(|at| etas[&(sku.as_str(), at["batch"].as_str().unwrap())]);
            match days.max() {
                Some(Some(latest)) if state == "allocated" => assert_eq!(line["promised_date"], latest, "{line}"),
                Some(None) if state == "allocated" => assert!(line["promised_date"].is_string(), "{line}"),
                _ => assert_eq!(line["promised_date"], Value::Null, "{line}"),
            }
        }
    })
    .await;
}
