-- No foreign keys and no index that a hot statement does not need: docs/adr/0004-what-the-schema-costs.md.
-- `sku` is part of every primary and unique key of these tables, so that they could be distributed by it.
-- Instants are whole microseconds of Unix time.
CREATE TABLE products (
    sku text COLLATE "C" NOT NULL PRIMARY KEY,
    version bigint NOT NULL, -- the sequence number of its last event
    changed_at bigint NOT NULL, -- when that happened
    backordered bigint NOT NULL CHECK (backordered >= 0),
    queued bigint NOT NULL CHECK (queued BETWEEN 0 AND backordered), -- of these, what the queue's cap counts
    out_of_stock_raised boolean NOT NULL,
    queue_cap bigint, -- null: any number may wait
    auto_improve boolean NOT NULL,
    strategy text, -- null: as the service does unless told otherwise
    min_days integer NOT NULL,
    requires_expiry boolean NOT NULL,
    overdue_days integer, -- null: a batch that has not come counts for ever
    levels text, -- what is to be kept at each location, and what is little, as JSON; null: nothing
    low text -- locations of which `low_stock` was told last, a line for each; null: none
) WITH (fillfactor = 70);
CREATE INDEX products_waiting ON products (sku) WHERE backordered > 0;

CREATE TABLE batches (
    sku text COLLATE "C" NOT NULL,
    reference text COLLATE "C" NOT NULL,
    location text COLLATE "C" NOT NULL,
    quantity bigint NOT NULL CHECK (quantity >= 0), -- units there are now
    declared bigint NOT NULL CHECK (declared >= 0), -- units it was last declared to have
    quarantined bigint NOT NULL CHECK (quarantined >= 0), -- units that are set aside
    held bigint NOT NULL CHECK (held >= 0),
    allocated bigint NOT NULL CHECK (allocated >= 0),
    eta date, -- null: arrived
    arrived bigint, -- the sequence number of the event with which it did
    expires_on date, -- null: never
    expired boolean NOT NULL,
    cancelled boolean NOT NULL,
    revision bigint NOT NULL,
    is_open boolean NOT NULL,
    created_after bigint NOT NULL, -- all events about it come after this one
    changed_by bigint NOT NULL, -- and none after this one, once it is not open
    PRIMARY KEY (sku, reference),
    CHECK (held + allocated + quarantined <= quantity)
) WITH (fillfactor = 70);
CREATE INDEX batches_open ON batches (sku) WHERE is_open;
CREATE INDEX batches_perishable ON batches (expires_on) WHERE expires_on IS NOT NULL AND is_open AND NOT expired;
CREATE INDEX batches_by_reference ON batches (reference);

-- A line's acceptance is unique within its SKU and rises with time: as the key it is appended to, and read backwards by a cut.
-- What few lines have is null or a default in the others, and costs them next to nothing.
CREATE TABLE lines (
    sku text COLLATE "C" NOT NULL,
    accepted bigint NOT NULL, -- the sequence number of the event that accepted it first
    order_id text COLLATE "C" NOT NULL,
    line text COLLATE "C" NOT NULL,
    requested bigint NOT NULL CHECK (requested > 0),
    placed bigint NOT NULL CHECK (placed >= 0), -- held or allocated
    backordered bigint NOT NULL CHECK (backordered >= 0),
    queued bigint NOT NULL DEFAULT 0 CHECK (queued BETWEEN 0 AND backordered), -- of these, what the queue's cap counts
    batch text COLLATE "C", -- where all placed units are, unless they are in `parts`
    dropped bigint,
    cancelled bigint,
    lapsed bigint,
    shipped bigint, -- units that have left: see `shipments`
    min_days integer, -- null: as the product says
    spoils_on date, -- the first day on which it may lose a place for want of shelf life
    held_until bigint, -- null: what is placed is allocated
    priority integer NOT NULL DEFAULT 0,
    by_date date,
    not_before date,
    min_split bigint, -- null: 1; 0: it must stay whole
    over_locations boolean, -- null: its parts stay at one location
    locations text, -- those it accepts, a line for each, the one it prefers first; null: any
    in_parts boolean NOT NULL DEFAULT false, -- its units lie in several batches, were accepted at several times, or are being picked: see `parts`
    PRIMARY KEY (sku, accepted),
    CHECK (requested = placed + backordered + coalesce(dropped, 0) + coalesce(cancelled, 0) + coalesce(lapsed, 0)
                       + coalesce(shipped, 0)),
    CHECK ((batch IS NULL) = (placed = 0 OR in_parts))
);
CREATE UNIQUE INDEX lines_by_order ON lines (order_id, sku, line);
CREATE INDEX lines_waiting ON lines (sku, priority DESC, accepted) WHERE backordered > 0;
CREATE INDEX lines_held ON lines (sku, held_until) WHERE held_until IS NOT NULL;
CREATE INDEX lines_due ON lines (held_until) WHERE held_until IS NOT NULL;
CREATE INDEX lines_spoiling ON lines (sku, spoils_on) WHERE spoils_on IS NOT NULL;
CREATE INDEX lines_spoiling_by_day ON lines (spoils_on) WHERE spoils_on IS NOT NULL;
CREATE INDEX lines_with_priority ON lines (sku, priority, accepted) WHERE priority <> 0;

-- All units of the lines that say so. No key of its own makes them unique, so that a line's old parts may go and its new ones come in one
-- statement.
CREATE TABLE parts (
    sku text COLLATE "C" NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    order_id text COLLATE "C" NOT NULL,
    line text COLLATE "C" NOT NULL,
    priority integer NOT NULL, -- the line's
    accepted bigint NOT NULL, -- the sequence number of the event that accepted these units
    batch text COLLATE "C", -- null: they wait
    qty bigint NOT NULL CHECK (qty > 0),
    locked boolean NOT NULL, -- whether they are being picked
    PRIMARY KEY (sku, id)
);
CREATE INDEX parts_of_line ON parts (sku, order_id, line);
CREATE INDEX parts_in_batch ON parts (sku, batch, priority, accepted DESC) WHERE batch IS NOT NULL;
CREATE INDEX parts_waiting ON parts (sku, priority DESC, accepted) WHERE batch IS NULL;

-- Units that have left, for each line by the batch they came from, in the order of the first shipment from each.
CREATE TABLE shipments (
    sku text COLLATE "C" NOT NULL,
    order_id text COLLATE "C" NOT NULL,
    line text COLLATE "C" NOT NULL,
    nth integer NOT NULL,
    batch text COLLATE "C" NOT NULL,
    qty bigint NOT NULL CHECK (qty > 0),
    returned bigint NOT NULL CHECK (returned BETWEEN 0 AND qty), -- of these, units that have come back
    PRIMARY KEY (sku, order_id, line, nth)
);
CREATE INDEX shipments_from_batch ON shipments (sku, batch);

CREATE TABLE events (
    sku text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (sku, sequence)
);

-- What a product's batches came to by an event, every thousand events or so: where a page of its ledger begins.
CREATE TABLE balances (
    sku text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (sku, sequence)
);

-- What a product's archived events came to, from where the others are folded on: after which of them, what it says of the product
-- itself, and what its batches had.
CREATE TABLE checkpoints (
    sku text COLLATE "C" NOT NULL PRIMARY KEY,
    sequence bigint NOT NULL,
    head text NOT NULL,
    balances text NOT NULL
);

-- The same of each batch and each line that those events named. What is over is kept, so that the books can be checked and mended.
CREATE TABLE checkpoint_batches (
    sku text COLLATE "C" NOT NULL,
    reference text COLLATE "C" NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (sku, reference)
);
CREATE TABLE checkpoint_lines (
    sku text COLLATE "C" NOT NULL,
    order_id text COLLATE "C" NOT NULL,
    line text COLLATE "C" NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (sku, order_id, line)
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

-- Messages that could not be used, each once, however often it came.
CREATE TABLE dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest bytea NOT NULL UNIQUE, -- of source, channel and body
    received_at timestamptz NOT NULL,
    source text NOT NULL,
    channel text NOT NULL,
    headers text NOT NULL, -- a list of pairs, as JSON
    body bytea NOT NULL,
    reason text NOT NULL,
    times bigint NOT NULL
);

-- Names of requests whose effect has no natural key, and of messages from brokers, each with a digest of what was asked.
CREATE TABLE request_keys (
    key text COLLATE "C" PRIMARY KEY,
    of_message boolean NOT NULL, -- false: of a request
    content bytea NOT NULL,
    at bigint NOT NULL
);
CREATE INDEX request_keys_by_age ON request_keys (of_message, at);

-- Holds that were asked for with an API key, and whose they are: so that a key can have too many.
CREATE TABLE holders (
    sku text COLLATE "C" NOT NULL,
    order_id text COLLATE "C" NOT NULL,
    line text COLLATE "C" NOT NULL,
    holder text COLLATE "C" NOT NULL,
    until bigint NOT NULL, -- in force before this
    PRIMARY KEY (sku, order_id, line)
);
CREATE INDEX holders_in_force ON holders (holder, until);

-- Who is told of events by a request of ours. How far each is stands in `sinks`.
CREATE TABLE webhooks (
    id text COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL,
    url text NOT NULL,
    skus text NOT NULL, -- a line for each that it is told of; empty: all
    topics text NOT NULL, -- the same of kinds of events
    secret text NOT NULL, -- in clear: requests are signed with it
    old_secret text, -- signs as well, until then
    old_secret_until bigint,
    created_at bigint NOT NULL,
    paused text, -- why; null: it is active
    attempts bigint NOT NULL, -- since the last success
    failing_since bigint,
    next_attempt bigint,
    failed_at bigint,
    failure text
);

-- Who may use the API: of each key a digest and what it allows, and not the key itself. Those of no use any more stay, so that what was done with them
-- can be told.
CREATE TABLE api_keys (
    digest bytea PRIMARY KEY, -- SHA-256 of the key
    name text COLLATE "C" NOT NULL,
    generation bigint NOT NULL, -- which of the keys of that name, from 1
    scopes text NOT NULL, -- with commas between them
    created_at bigint NOT NULL,
    expires_at bigint, -- null: it does not by itself
    revoked_at bigint,
    last_used_at bigint,
    UNIQUE (name, generation)
);
