-- No foreign keys and no index that a hot statement does not need: docs/adr/0004-what-the-schema-costs.md.
-- `sku` is part of every primary and unique key of these tables, so that they could be distributed by it.
CREATE TABLE products (
    sku text COLLATE "C" NOT NULL PRIMARY KEY,
    version bigint NOT NULL, -- the sequence number of its last event
    backordered bigint NOT NULL CHECK (backordered >= 0),
    out_of_stock_raised boolean NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE batches (
    sku text COLLATE "C" NOT NULL,
    reference text COLLATE "C" NOT NULL,
    quantity bigint NOT NULL CHECK (quantity >= 0),
    allocated bigint NOT NULL CHECK (allocated BETWEEN 0 AND quantity),
    eta date, -- null: arrived
    revision bigint NOT NULL,
    is_open boolean NOT NULL,
    PRIMARY KEY (sku, reference)
) WITH (fillfactor = 70);
CREATE INDEX batches_open ON batches (sku) WHERE is_open;
CREATE INDEX batches_by_reference ON batches (reference);

-- A line's seniority is unique within its SKU and rises with time: as the key it is appended to, and read backwards by a cut.
CREATE TABLE lines (
    sku text COLLATE "C" NOT NULL,
    accepted bigint NOT NULL, -- seniority: the sequence number of the event that accepted it
    order_id text COLLATE "C" NOT NULL,
    line text COLLATE "C" NOT NULL,
    requested bigint NOT NULL CHECK (requested > 0),
    allocated bigint NOT NULL CHECK (allocated >= 0),
    backordered bigint NOT NULL CHECK (backordered >= 0),
    cancelled bigint NOT NULL CHECK (cancelled >= 0),
    batch text COLLATE "C",
    PRIMARY KEY (sku, accepted),
    CHECK (requested = allocated + backordered + cancelled),
    CHECK ((batch IS NULL) = (allocated = 0))
);
CREATE UNIQUE INDEX lines_by_order ON lines (order_id, sku, line);
CREATE INDEX lines_waiting ON lines (sku, accepted) WHERE backordered > 0;

CREATE TABLE events (
    sku text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (sku, sequence)
);

-- What each committed unit of work added to the log, until it is given its place in the feed. For one SKU, ids rise in the order
-- of commits, since its product is locked meanwhile.
CREATE TABLE units_of_work (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    skus text[] NOT NULL,
    first_sequences bigint[] NOT NULL,
    last_sequences bigint[] NOT NULL
);

-- Places in the feed, given after the commit: a row for a run of one SKU's events, which take the positions up to `last_position`.
CREATE TABLE feed (
    last_position bigint PRIMARY KEY,
    sku text COLLATE "C" NOT NULL,
    first_sequence bigint NOT NULL,
    last_sequence bigint NOT NULL
);

CREATE TABLE sinks (
    name text PRIMARY KEY,
    position bigint NOT NULL
);

CREATE TABLE leases (
    task text PRIMARY KEY,
    holder text NOT NULL,
    expires_at timestamptz NOT NULL
);
-- Whoever numbers the feed locks this row.
INSERT INTO leases (task, holder, expires_at) VALUES ('numbering', '', '-infinity');

CREATE TABLE notified (
    subject text PRIMARY KEY,
    at timestamptz NOT NULL
);

CREATE TABLE dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL,
    channel text NOT NULL,
    body text NOT NULL,
    reason text NOT NULL
);
