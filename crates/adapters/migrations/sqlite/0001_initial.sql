CREATE TABLE products (
    sku TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL, -- the sequence number of its last event
    backordered INTEGER NOT NULL CHECK (backordered >= 0),
    out_of_stock_raised INTEGER NOT NULL,
    newest_order_id TEXT, -- with `newest_line`: the line accepted last, where the chain of its lines begins
    newest_line TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE batches (
    sku TEXT NOT NULL,
    reference TEXT NOT NULL,
    quantity INTEGER NOT NULL CHECK (quantity >= 0),
    allocated INTEGER NOT NULL CHECK (allocated BETWEEN 0 AND quantity),
    eta TEXT, -- null: arrived
    revision INTEGER NOT NULL,
    is_open INTEGER NOT NULL,
    PRIMARY KEY (sku, reference)
) STRICT, WITHOUT ROWID;
CREATE INDEX batches_open ON batches (sku) WHERE is_open;
CREATE INDEX batches_by_reference ON batches (reference);

-- Keyed by order, so that the lines of new orders are written side by side whatever they ask for. A product's lines are found by
-- following `previous_*` from the newest on: docs/adr/0008-lines-of-a-product-are-chained-on-sqlite.md.
CREATE TABLE lines (
    order_id TEXT NOT NULL,
    sku TEXT NOT NULL,
    line TEXT NOT NULL,
    requested INTEGER NOT NULL CHECK (requested > 0),
    allocated INTEGER NOT NULL CHECK (allocated >= 0),
    backordered INTEGER NOT NULL CHECK (backordered >= 0),
    cancelled INTEGER NOT NULL CHECK (cancelled >= 0),
    batch TEXT,
    accepted INTEGER NOT NULL, -- seniority: the sequence number of the event that accepted it
    previous_order_id TEXT, -- with `previous_line`: the line of the same SKU accepted before it
    previous_line TEXT,
    PRIMARY KEY (order_id, sku, line),
    CHECK (requested = allocated + backordered + cancelled),
    CHECK ((batch IS NULL) = (allocated = 0))
) STRICT, WITHOUT ROWID;
CREATE INDEX lines_waiting ON lines (sku, accepted) WHERE backordered > 0;

CREATE TABLE events (
    position INTEGER NOT NULL PRIMARY KEY, -- one writer: the order of insertion is the order of commit
    sku TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE sinks (
    name TEXT NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    task TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    expires_at INTEGER NOT NULL -- milliseconds of Unix time
) STRICT, WITHOUT ROWID;

CREATE TABLE notified (
    subject TEXT NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL -- milliseconds of Unix time
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters (
    id INTEGER NOT NULL PRIMARY KEY,
    received_at INTEGER NOT NULL, -- milliseconds of Unix time
    channel TEXT NOT NULL,
    body TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
