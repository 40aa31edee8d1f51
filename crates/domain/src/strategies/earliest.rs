//! `earliest`: whatever is ready first. Of what is ready by the day a line is wanted, what arrives last, so that today's stock is left to today's
//! orders (rule 5).

use std::cmp::Reverse;

use time::Date;

use super::{LocationOrder, Offer, Order, Serves, count, day};

pub(super) fn order(offer: &Offer<'_>) -> Order {
    (Date::MIN, 0, offer.ready, Reverse(offer.arrival), offer.at)
}

/// The line's preference breaks ties of date.
pub(super) fn location_order(serves: &Serves) -> LocationOrder {
    (day(serves.ready), count(serves.rank), count(serves.parts))
}
