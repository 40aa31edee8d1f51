//! What is to be kept, and what is little, by location: in events, and as stores keep it.

use std::collections::BTreeMap;

use allocation_domain::{Level, Location, LowStock};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is to be kept at a location, and what is little.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct LevelJson {
    /// Free units that are never promised.
    safety_stock: u64,
    /// From how many promisable units down little is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    low_stock: Option<u64>,
    /// From how many up there is enough again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    restocked: Option<u64>,
}

/// By location.
pub(crate) type LevelsJson = BTreeMap<String, LevelJson>;

pub(crate) fn written(levels: &BTreeMap<Location, Level>) -> LevelsJson {
    let level = |Level { safety_stock, low_stock }: &Level| LevelJson {
        safety_stock: *safety_stock,
        low_stock: low_stock.map(|low| low.threshold),
        restocked: low_stock.map(|low| low.restocked),
    };
    levels.iter().map(|(location, of_it)| (location.as_str().to_owned(), level(of_it))).collect()
}

pub(crate) fn read(levels: &LevelsJson) -> Result<BTreeMap<Location, Level>, String> {
    let level = |(location, level): (&String, &LevelJson)| {
        let LevelJson { safety_stock, low_stock, restocked } = *level;
        let location = Location::new(&**location).map_err(|error| error.to_string())?;
        let low_stock = low_stock.zip(restocked).map(|(threshold, restocked)| LowStock { threshold, restocked });
        Ok((location, Level { safety_stock, low_stock }))
    };
    levels.iter().map(level).collect()
}

/// Levels as JSON; none of them: nothing.
pub fn levels_json(levels: &BTreeMap<Location, Level>) -> Option<String> {
    let json = || serde_json::to_string(&written(levels)).expect("texts and numbers always have a JSON form");
    (!levels.is_empty()).then(json)
}

/// Reads them back.
///
/// # Errors
/// What is wrong, when they were not written by [`levels_json`].
pub fn parse_levels(json: &str) -> Result<BTreeMap<Location, Level>, String> {
    read(&serde_json::from_str(json).map_err(|error| error.to_string())?)
}
