-- Instants are whole microseconds of Unix time.
CREATE TABLE products (
    sku TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL, -- the sequence number of its last event
    changed_at INTEGER NOT NULL, -- when that happened
    backordered INTEGER NOT NULL CHECK (backordered >= 0),
    queued INTEGER NOT NULL CHECK (queued BETWEEN 0 AND backordered), -- of these, what the queue's cap counts
    out_of_stock_raised INTEGER NOT NULL,
    queue_cap INTEGER, -- null: any number may wait
    auto_improve INTEGER NOT NULL,
    strategy TEXT, -- null: as the service does unless told otherwise
    min_days INTEGER NOT NULL,
    requires_expiry INTEGER NOT NULL,
    overdue_days INTEGER, -- null: a batch that has not come counts for ever
    levels TEXT, -- what is to be kept at each location, and what is little, as JSON; null: nothing
    low TEXT, -- locations of which `low_stock` was told last, a line for each; null: none
    newest_order_id TEXT, -- with `newest_line`: the line accepted last, where the chain of its lines begins
    newest_line TEXT,
    newest_event INTEGER -- where its last event is, and the chain of its events begins
) STRICT, WITHOUT ROWID;
CREATE INDEX products_waiting ON products (sku) WHERE backordered > 0;

CREATE TABLE batches (
    sku TEXT NOT NULL,
    reference TEXT NOT NULL,
    location TEXT NOT NULL,
    quantity INTEGER NOT NULL CHECK (quantity >= 0), -- units there are now
    declared INTEGER NOT NULL CHECK (declared >= 0), -- units it was last declared to have
    quarantined INTEGER NOT NULL CHECK (quarantined >= 0), -- units that are set aside
    held INTEGER NOT NULL CHECK (held >= 0),
    allocated INTEGER NOT NULL CHECK (allocated >= 0),
    eta TEXT, -- null: arrived
    arrived INTEGER, -- the sequence number of the event with which it did
    expires_on TEXT, -- null: never
    expired INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    is_open INTEGER NOT NULL,
    created_after INTEGER NOT NULL, -- all events about it come after this one
    changed_by INTEGER NOT NULL, -- and none after this one, once it is not open
    PRIMARY KEY (sku, reference),
    CHECK (held + allocated + quarantined <= quantity)
) STRICT, WITHOUT ROWID;
CREATE INDEX batches_open ON batches (sku) WHERE is_open;
CREATE INDEX batches_perishable ON batches (expires_on) WHERE expires_on IS NOT NULL AND is_open AND NOT expired;
CREATE INDEX batches_by_reference ON batches (reference);

-- Keyed by order, so that the lines of new orders are written side by side whatever they ask for. A product's lines are found by
-- following `previous_*` from the newest on: docs/adr/0008-lines-of-a-product-are-chained-on-sqlite.md.
CREATE TABLE lines (
    order_id TEXT NOT NULL,
    sku TEXT NOT NULL,
    line TEXT NOT NULL,
    accepted INTEGER NOT NULL, -- the sequence number of the event that accepted it first
    requested INTEGER NOT NULL CHECK (requested > 0),
    placed INTEGER NOT NULL CHECK (placed >= 0), -- held or allocated
    backordered INTEGER NOT NULL CHECK (backordered >= 0),
    queued INTEGER NOT NULL CHECK (queued BETWEEN 0 AND backordered), -- of these, what the queue's cap counts
    batch TEXT, -- where all placed units are, unless they are in `parts`
    dropped INTEGER,
    cancelled INTEGER,
    lapsed INTEGER,
    shipped INTEGER, -- units that have left: see `shipments`
    min_days INTEGER, -- null: as the product says
    spoils_on TEXT, -- the first day on which it may lose a place for want of shelf life
    held_until INTEGER, -- null: what is placed is allocated
    priority INTEGER NOT NULL,
    by_date TEXT,
    not_before TEXT,
    min_split INTEGER, -- null: 1; 0: it must stay whole
    over_locations INTEGER, -- null: its parts stay at one location
    locations TEXT, -- those it accepts, a line for each, the one it prefers first; null: any
    in_parts INTEGER NOT NULL, -- its units lie in several batches, were accepted at several times, or are being picked: see `parts`
    previous_order_id TEXT, -- with `previous_line`: the line of the same SKU accepted before it
    previous_line TEXT,
    PRIMARY KEY (order_id, sku, line),
    CHECK (requested = placed + backordered + coalesce(dropped, 0) + coalesce(cancelled, 0) + coalesce(lapsed, 0)
                       + coalesce(shipped, 0)),
    CHECK ((batch IS NULL) = (placed = 0 OR in_parts))
) STRICT, WITHOUT ROWID;
CREATE INDEX lines_waiting ON lines (sku, priority DESC, accepted) WHERE backordered > 0;
CREATE INDEX lines_held ON lines (sku, held_until) WHERE held_until IS NOT NULL;
CREATE INDEX lines_due ON lines (held_until) WHERE held_until IS NOT NULL;
CREATE INDEX lines_spoiling ON lines (sku, spoils_on) WHERE spoils_on IS NOT NULL;
CREATE INDEX lines_spoiling_by_day ON lines (spoils_on) WHERE spoils_on IS NOT NULL;
CREATE INDEX lines_with_priority ON lines (sku, priority, accepted) WHERE priority <> 0;

-- All units of the lines that say so.
CREATE TABLE parts (
    sku TEXT NOT NULL,
    order_id TEXT NOT NULL,
    line TEXT NOT NULL,
    priority INTEGER NOT NULL, -- the line's
    accepted INTEGER NOT NULL, -- the sequence number of the event that accepted these units
    batch TEXT, -- null: they wait
    qty INTEGER NOT NULL CHECK (qty > 0),
    locked INTEGER NOT NULL -- whether they are being picked
) STRICT;
CREATE INDEX parts_of_line ON parts (sku, order_id, line);
CREATE INDEX parts_in_batch ON parts (sku, batch, priority, accepted DESC) WHERE batch IS NOT NULL;
CREATE INDEX parts_waiting ON parts (sku, priority DESC, accepted) WHERE batch IS NULL;

-- Units that have left, for each line by the batch they came from, in the order of the first shipment from each.
CREATE TABLE shipments (
    sku TEXT NOT NULL,
    order_id TEXT NOT NULL,
    line TEXT NOT NULL,
    nth INTEGER NOT NULL,
    batch TEXT NOT NULL,
    qty INTEGER NOT NULL CHECK (qty > 0),
    returned INTEGER NOT NULL CHECK (returned BETWEEN 0 AND qty), -- of these, units that have come back
    PRIMARY KEY (sku, order_id, line, nth)
) STRICT, WITHOUT ROWID;
CREATE INDEX shipments_from_batch ON shipments (sku, batch);

CREATE TABLE events (
    position INTEGER NOT NULL PRIMARY KEY, -- one writer: the order of insertion is the order of commit
    sku TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    previous INTEGER, -- where the event of the same product before it is
    body TEXT NOT NULL
) STRICT;

-- What a product's batches came to by an event, every thousand events or so: where a page of its ledger begins.
CREATE TABLE balances (
    sku TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    position INTEGER NOT NULL, -- where that event is
    body TEXT NOT NULL,
    PRIMARY KEY (sku, sequence)
) STRICT;

-- What a product's archived events came to, from where the others are folded on: after which of them, what it says of the product
-- itself, and what its batches had.
CREATE TABLE checkpoints (
    sku TEXT NOT NULL PRIMARY KEY,
    sequence INTEGER NOT NULL,
    head TEXT NOT NULL,
    balances TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The same of each batch and each line that those events named. What is over is kept, so that the books can be checked and mended.
CREATE TABLE checkpoint_batches (
    sku TEXT NOT NULL,
    reference TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (sku, reference)
) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoint_lines (
    sku TEXT NOT NULL,
    order_id TEXT NOT NULL,
    line TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (sku, order_id, line)
) STRICT, WITHOUT ROWID;

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

-- Messages that could not be used, each once, however often it came.
CREATE TABLE dead_letters (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE, -- of source, channel and body
    received_at INTEGER NOT NULL, -- milliseconds of Unix time
    source TEXT NOT NULL,
    channel TEXT NOT NULL,
    headers TEXT NOT NULL, -- a list of pairs, as JSON
    body BLOB NOT NULL,
    reason TEXT NOT NULL,
    times INTEGER NOT NULL
) STRICT;

-- Names of requests whose effect has no natural key, and of messages from brokers, each with a digest of what was asked.
CREATE TABLE request_keys (
    key TEXT NOT NULL PRIMARY KEY,
    of_message INTEGER NOT NULL, -- 0: of a request
    content BLOB NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX request_keys_by_age ON request_keys (of_message, at);

-- Holds that were asked for with an API key, and whose they are: so that a key can have too many.
CREATE TABLE holders (
    sku TEXT NOT NULL,
    order_id TEXT NOT NULL,
    line TEXT NOT NULL,
    holder TEXT NOT NULL,
    until INTEGER NOT NULL, -- in force before this
    PRIMARY KEY (sku, order_id, line)
) STRICT, WITHOUT ROWID;
CREATE INDEX holders_in_force ON holders (holder, until);

-- Who is told of events by a request of ours. How far each is stands in `sinks`.
CREATE TABLE webhooks (
    id TEXT NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL,
    url TEXT NOT NULL,
    skus TEXT NOT NULL, -- a line for each that it is told of; empty: all
    topics TEXT NOT NULL, -- the same of kinds of events
    secret TEXT NOT NULL, -- in clear: requests are signed with it
    old_secret TEXT, -- signs as well, until then
    old_secret_until INTEGER,
    created_at INTEGER NOT NULL,
    paused TEXT, -- why; null: it is active
    attempts INTEGER NOT NULL, -- since the last success
    failing_since INTEGER,
    next_attempt INTEGER,
    failed_at INTEGER,
    failure TEXT
) STRICT, WITHOUT ROWID;

-- Who may use the API: of each key a digest and what it allows, and not the key itself. Those of no use any more stay, so that what was done with them
-- can be told.
CREATE TABLE api_keys (
    digest BLOB NOT NULL PRIMARY KEY, -- SHA-256 of the key
    name TEXT NOT NULL,
    generation INTEGER NOT NULL, -- which of the keys of that name, from 1
    scopes TEXT NOT NULL, -- with commas between them
    created_at INTEGER NOT NULL,
    expires_at INTEGER, -- null: it does not by itself
    revoked_at INTEGER,
    last_used_at INTEGER,
    UNIQUE (name, generation)
) STRICT, WITHOUT ROWID;
