//! `location_priority`: the location that the line prefers most of those that can serve it, even on a later day (rule 6).

use super::{LocationOrder, Serves, count, day};

pub(super) fn location_order(serves: &Serves) -> LocationOrder {
    (count(serves.rank), day(serves.ready), count(serves.parts))
}
