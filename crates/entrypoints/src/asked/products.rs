//! What is said of a product.

use std::collections::BTreeMap;

use allocation_domain::commands::{Improve, SetProduct};
use allocation_domain::{Command, Level, Location, LowStock, Settings, Sku, Strategy};
use serde::Deserialize;
use utoipa::ToSchema;

use super::fields::{Days, Faults, Field, Names, Object, Units, Unknown};
use super::{Nothing, schemas};

/// How a product is to behave. What is left out is as with a product that nothing was said of.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ProductSettings {
    /// How many units of new requests may wait in its queue; null: any number.
    #[serde(default)]
    #[schema(value_type = Option<schemas::Count>)]
    queue_cap: Field<Option<u64>>,
    /// Whether promises move to earlier stock whenever there is some.
    #[serde(default)]
    #[schema(value_type = bool, default = false)]
    auto_improve: Field<bool>,
    /// Which batches go first: `earliest`, `fefo` (first expired), `fifo` (first in), `fewest_splits` or `location_priority`; null: as the service is
    /// told.
    #[serde(default)]
    #[schema(value_type = Option<schemas::StrategyName>)]
    strategy: Field<Option<Strategy>>,
    /// For how many days its units must be of use from the day they are ready, unless a line says otherwise: 0 to 3,650.
    #[serde(default)]
    #[schema(value_type = u16, default = 0, maximum = 3_650)]
    min_days: Field<Days>,
    /// Whether each of its batches must say when it expires.
    #[serde(default)]
    #[schema(value_type = bool, default = false)]
    requires_expiry: Field<bool>,
    /// For how many days after its ETA a batch that has not come counts for new promises, 0 to 3,650; null: for ever.
    #[serde(default)]
    #[schema(value_type = Option<u16>, maximum = 3_650)]
    overdue_days: Field<Option<Days>>,
    /// What is to be kept at a location, and what is little there, by the location's name.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<schemas::Location, LevelSettings>>)]
    locations: Option<Object<BTreeMap<String, Object<LevelSettings>>>>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// What is to be kept of a product at a location, and what is little.
#[derive(Deserialize, ToSchema)]
struct LevelSettings {
    /// Free units that are never promised.
    #[serde(default)]
    #[schema(value_type = schemas::Count, default = 0)]
    safety_stock: Field<Units>,
    /// An event tells once when no more than so many units are available there; null: never.
    #[serde(default)]
    #[schema(value_type = Option<schemas::Count>)]
    low_stock: Field<Option<u64>>,
    /// And another, after that, once so many units are available again: more than `low_stock`, and one more unless said.
    #[serde(default)]
    #[schema(value_type = Option<schemas::Count>)]
    restocked: Field<Option<u64>>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

impl LevelSettings {
    fn read(self, faults: &mut Faults, prefix: &str) -> Level {
        let name = |field: &str| format!("{prefix}.{field}");
        let Units(safety_stock) = faults.optional(name("safety_stock"), self.safety_stock).unwrap_or_default();
        let threshold = faults.optional(name("low_stock"), self.low_stock).flatten();
        let restocked = faults.optional(name("restocked"), self.restocked).flatten();
        faults.unknown(&format!("{prefix}."), &self.unknown);
        let low_stock = match (threshold, restocked) {
            (None, None) => None,
            (None, Some(_)) => {
                faults.add(name("restocked"), "has no meaning without low_stock");
                None
            }
            (Some(threshold), restocked) => {
                let restocked = restocked.unwrap_or_else(|| threshold.saturating_add(1).min(i64::MAX.unsigned_abs()));
                if restocked <= threshold {
                    faults.add(name("restocked"), "must be more than low_stock");
                }
                Some(LowStock { threshold, restocked })
            }
        };
        Level { safety_stock, low_stock }
    }
}

/// What is said of each location.
fn levels(
    faults: &mut Faults,
    said: Option<Object<BTreeMap<String, Object<LevelSettings>>>>,
) -> BTreeMap<Location, Level> {
    let mut levels = BTreeMap::new();
    let said = match said {
        None => return levels,
        Some(Object::Good(said)) => said,
        Some(Object::Other(_)) => {
            faults.add("locations", "must be an object, with a field for each location");
            return levels;
        }
    };
    if said.len() > MAX_LOCATIONS {
        faults.add("locations", format!("must be at most {MAX_LOCATIONS} locations"));
    }
    for (name, level) in said {
        let prefix = format!("locations.{name}");
        let Object::Good(level) = level else {
            faults.add(prefix, "must be an object, with fields such as safety_stock");
            continue;
        };
        let level = level.read(faults, &prefix);
        match Location::new(name) {
            Ok(location) => drop(levels.insert(location, level)),
            Err(error) => faults.add(prefix, error.to_string()),
        }
    }
    levels
}

/// The most locations that a product's settings may name.
const MAX_LOCATIONS: usize = 1_000;

pub(crate) fn set(faults: &mut Faults, about: &Names, body: ProductSettings) -> Option<Command> {
    let sku = about.get::<Sku>(faults, "sku");
    let queue_cap = faults.optional("queue_cap", body.queue_cap).flatten();
    let auto_improve = faults.optional("auto_improve", body.auto_improve).unwrap_or_default();
    let strategy = faults.optional("strategy", body.strategy).flatten();
    let min_days = faults.optional("min_days", body.min_days).map_or(0, |Days(days)| days);
    let requires_expiry = faults.optional("requires_expiry", body.requires_expiry).unwrap_or_default();
    let overdue_days = faults.optional("overdue_days", body.overdue_days).flatten().map(|Days(days)| days);
    let levels = levels(faults, body.locations);
    faults.unknown("", &body.unknown);
    let settings = Settings { queue_cap, auto_improve, strategy, min_days, requires_expiry, overdue_days, levels };
    Some(Command::SetProduct(SetProduct { sku: sku?, settings }))
}

pub(crate) fn improve(faults: &mut Faults, about: &Names, Nothing { unknown }: Nothing) -> Option<Command> {
    faults.unknown("", &unknown);
    Some(Command::Improve(Improve { sku: about.get(faults, "sku")? }))
}
