//! Load, from a process of its own: what is asked for, and by whom.

pub(crate) mod open_loop;
pub(crate) mod wrk;

/// How many products there are in every store.
pub(crate) const PRODUCTS: u64 = 1_000;

/// The name of a product, all of one length.
pub(crate) fn sku(number: u64) -> String {
    format!("SKU-{number:04}")
}

/// The batch that holds a product's stock.
pub(crate) fn batch(number: u64) -> String {
    format!("B-{number:04}")
}

/// What a request asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// `PUT /v1/orders/{id}` with so many lines, each of a product of its own.
    Put(u64),
    /// `POST /allocate`, as the Python original has it.
    Post,
    /// `GET /v1/orders/{id}` of so many orders that [`fill`](crate::controls::bare::fill) has made.
    GetOrder(u64),
    /// `GET /v1/products/{sku}`
    GetProduct,
}

impl Request {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Put(1) => "PUT",
            Self::Put(_) => "PUT of ten lines",
            Self::Post => "POST",
            Self::GetOrder(_) => "GET order",
            Self::GetProduct => "GET product",
        }
    }

    /// How many lines a request allocates.
    pub(crate) fn lines(self) -> u64 {
        match self {
            Self::Put(lines) => lines,
            Self::Post => 1,
            Self::GetOrder(_) | Self::GetProduct => 0,
        }
    }
}

/// Which products requests are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skus {
    /// All want the same: one, or with ten lines the same ten.
    One,
    /// All alike.
    Even,
    /// The first twice as often as the second, three times as often as the third …
    Zipf,
}

impl Skus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "one SKU",
            Self::Even => "1,000 SKUs",
            Self::Zipf => "Zipf",
        }
    }
}
