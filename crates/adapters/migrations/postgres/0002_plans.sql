-- What the planner is to believe of these tables before there is anything to count, and whatever it counts: most lines may be of one product and most
-- batches have one reference, while a product has few batches. Else a row's key could look no better than an index of which it uses less, and all
-- of a product's lines would be read for each: docs/adr/0019-plans-do-not-depend-on-when-they-were-made.md.
ALTER TABLE lines ALTER COLUMN sku SET (n_distinct = 2);
ALTER TABLE parts ALTER COLUMN sku SET (n_distinct = 2);
ALTER TABLE shipments ALTER COLUMN sku SET (n_distinct = 2);
ALTER TABLE batches ALTER COLUMN reference SET (n_distinct = 2);
ALTER TABLE batches ALTER COLUMN sku SET (n_distinct = -0.5);

-- That is taken note of where there are rows. So there are some for a moment: fewer than make autovacuum come, which would find an empty table.
INSERT INTO lines (sku, accepted, order_id, line, requested, placed, backordered, batch)
    SELECT '', n, n, '', 1, 1, 0, '' FROM generate_series(1, 40) n;
INSERT INTO parts (sku, order_id, line, priority, accepted, qty, locked)
    SELECT '', n, '', 0, n, 1, false FROM generate_series(1, 40) n;
INSERT INTO shipments (sku, order_id, line, nth, batch, qty, returned)
    SELECT '', n, '', 0, '', 1, 0 FROM generate_series(1, 40) n;
INSERT INTO batches (sku, reference, location, quantity, declared, quarantined, held, allocated, expired, cancelled, revision,
                     is_open, created_after, changed_by)
    SELECT '', n, '', 1, 1, 0, 0, 0, false, false, 1, n % 2 = 0, 0, 0 FROM generate_series(1, 40) n;
ANALYZE lines, parts, shipments, batches;
DELETE FROM lines WHERE sku = '';
DELETE FROM parts WHERE sku = '';
DELETE FROM shipments WHERE sku = '';
DELETE FROM batches WHERE sku = '';
