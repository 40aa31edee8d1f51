//! What the rules cost by themselves: planning and applying, with few batches and with many.

use allocation_domain::commands::WhenShort;
use allocation_domain::product::Decision;
use allocation_domain::{BatchQuantity, BatchRef, Location, OrderId, OrderLine, Product, Quantity, Sku};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use time::OffsetDateTime;

fn product(batches: u64) -> Product {
    let mut product = Product::new(Sku::new("SMALL-TABLE").expect("a SKU"), OffsetDateTime::UNIX_EPOCH);
    for n in 0..batches {
        let reference = BatchRef::new(format!("batch-{n}")).expect("a reference");
        let qty = BatchQuantity::new(if n + 1 == batches { 1_000_000_000 } else { 0 }).expect("a quantity");
        product.create_batch(reference, qty, None, None, Location::default()).expect("a new batch");
    }
    product.take_events();
    product
}

fn line() -> OrderLine {
    let (order, sku) = (OrderId::new("order-1"), Sku::new("SMALL-TABLE"));
    OrderLine::new(order.expect("an id"), sku.expect("a SKU"), Quantity::new(10).expect("a quantity"))
}

fn allocate(c: &mut Criterion) {
    for batches in [1, 10, 1_000] {
        let (product, line) = (product(batches), line());
        c.bench_function(&format!("plan, {batches} batches"), |b| {
            b.iter(|| product.plan(std::slice::from_ref(&line), WhenShort::Reject, None));
        });
        c.bench_function(&format!("plan and apply, {batches} batches"), |b| {
            b.iter_batched_ref(
                || product.clone(),
                |product| match product.plan(std::slice::from_ref(&line), WhenShort::Reject, None) {
                    Decision::Accept(plan) => product.apply(plan),
                    other => panic!("{other:?}"),
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, allocate);
criterion_main!(benches);
