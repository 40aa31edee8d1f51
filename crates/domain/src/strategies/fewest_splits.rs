//! `fewest_splits`: as few batches as can be, even on a later day.

use super::{LocationOrder, Serves, count, day};

pub(super) fn location_order(serves: &Serves) -> LocationOrder {
    (count(serves.parts), day(serves.ready), count(serves.rank))
}
