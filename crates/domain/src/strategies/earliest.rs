//! `earliest`: whatever is ready first. Of what is ready by the day a line is wanted, what arrives last, so that today's stock is left to today's
//! orders (rule 5).

use std::cmp::Reverse;

use time::Date;

use super::{Offer, Order};

pub(super) fn order(offer: &Offer) -> Order {
    (Date::MIN, 0, offer.ready, Reverse(offer.arrival), offer.at)
}
