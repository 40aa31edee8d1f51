//! `fefo`: first expired, first out. What never expires goes last.

use std::cmp::Reverse;

use time::Date;

use super::{Offer, Order};

pub(super) fn order(offer: &Offer<'_>) -> Order {
    (offer.expires_on.unwrap_or(Date::MAX), 0, offer.ready, Reverse(offer.arrival), offer.at)
}
