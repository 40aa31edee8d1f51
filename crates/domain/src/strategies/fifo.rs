//! `fifo`: first in, first out. What has not arrived goes last.

use std::cmp::Reverse;

use time::Date;

use super::{Offer, Order};

pub(super) fn order(offer: &Offer<'_>) -> Order {
    (Date::MIN, offer.arrived.unwrap_or(u64::MAX), offer.ready, Reverse(offer.arrival), offer.at)
}
