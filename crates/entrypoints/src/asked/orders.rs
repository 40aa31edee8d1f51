//! What an order asks for, and what is said of it later.

use allocation_domain::commands::{Allocate, ChangeLine, ConfirmHold, Deallocate, ExtendHold, LineChange, WhenShort};
use allocation_domain::{
    Command, Eta, HoldSeconds, LineId, LineKey, Location, Locations, OrderId, Quantity, Sku, Split, Terms,
};
use allocation_service_layer::wire::OVER_LOCATIONS;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fields::{Days, Faults, Field, ListField, Names, Parse, Scalar, Unknown};
use super::{MAX_LINES, Nothing, schemas};

/// What an order asks for. What is said of the order holds for each line that does not say otherwise.
#[derive(Deserialize, ToSchema)]
pub(crate) struct OrderRequest {
    /// 1 to 1,000 lines. Lines for the same SKU and `line` are added up.
    #[serde(default)]
    #[schema(value_type = Vec<LineRequest>, required, min_items = 1, max_items = 1000)]
    lines: Option<Vec<LineRequest>>,
    /// What to do when there is not enough: `reject` promises nothing, `partial` what there is and drops the rest, `backorder` what there is
    /// and queues the rest.
    #[serde(default)]
    #[schema(value_type = schemas::WhenShortName, default = "reject")]
    when_short: Field<WhenShort>,
    /// Promise for so many seconds only, unless confirmed: 1 to 2,592,000. Holds never wait.
    #[serde(default)]
    #[schema(value_type = schemas::Seconds)]
    hold_seconds: Field<HoldSeconds>,
    #[serde(flatten)]
    terms: TermsRequest,
}

/// What placements must obey.
#[derive(Deserialize, ToSchema)]
struct TermsRequest {
    /// Who goes first: higher before lower.
    #[serde(default)]
    #[schema(value_type = schemas::Priority, default = 0)]
    priority: Field<i32>,
    /// The latest day it may be promised for, inclusive; null: any.
    #[serde(default)]
    #[schema(value_type = Option<schemas::Day>)]
    by: Field<Eta>,
    /// The day it is wanted, and no earlier; null: at once.
    #[serde(default)]
    #[schema(value_type = Option<schemas::Day>)]
    not_before: Field<Eta>,
    /// Whether a line may have its units from several batches: at one location, or with `locations` at several.
    #[serde(default)]
    #[schema(value_type = SplitName, default = true)]
    split: Field<SplitName>,
    /// No part but the remainder is smaller than this.
    #[serde(default)]
    #[schema(value_type = schemas::Units, default = 1)]
    min_split: Field<Quantity>,
    /// For how many days its units must be of use from the day they are ready, 0 to 3,650; left out: as the product says.
    #[serde(default)]
    #[schema(value_type = u16, maximum = 3_650)]
    min_days: Field<Days>,
    /// The locations it accepts, in order of preference, 1 to 64; null: any.
    #[serde(default)]
    #[schema(value_type = Option<Vec<schemas::Location>>, min_items = 1, max_items = 64)]
    locations: ListField<Location>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// Whether a line may have its units from several batches, and over what.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum SplitName {
    /// In parts at one location, or not.
    Flag(bool),
    /// In parts at several locations.
    Over(OverLocations),
}

/// At several locations.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OverLocations {
    /// The word for it.
    Locations,
}

impl Parse for SplitName {
    fn parse(value: &Scalar<'_>) -> Result<Self, String> {
        match value {
            Scalar::Truth(flag) => Ok(Self::Flag(*flag)),
            Scalar::Text(OVER_LOCATIONS) => Ok(Self::Over(OverLocations::Locations)),
            _ => Err(format!("must be true, false or \"{OVER_LOCATIONS}\"")),
        }
    }
}

impl From<Split> for SplitName {
    fn from(split: Split) -> Self {
        match split {
            Split::Never => Self::Flag(false),
            Split::Parts(_) => Self::Flag(true),
            Split::OverLocations(_) => Self::Over(OverLocations::Locations),
        }
    }
}

/// Locations in order of preference, each with its fault.
fn locations(faults: &mut Faults, name: &str, given: Vec<Field<Location>>) -> Option<Locations> {
    let mut good = Vec::with_capacity(given.len());
    let mut all_good = true;
    for (at, location) in given.into_iter().enumerate() {
        match faults.required(format!("{name}[{at}]"), location) {
            Some(location) => good.push(location),
            None => all_good = false,
        }
    }
    match Locations::new(good) {
        Ok(locations) => Some(locations),
        Err(error) => {
            if all_good {
                faults.add(name, error.to_string());
            }
            None
        }
    }
}

impl TermsRequest {
    /// What is said, on top of `usual`.
    fn read(self, faults: &mut Faults, prefix: &str, usual: Terms) -> Terms {
        if !self.unknown.is_empty() {
            faults.unknown(prefix, &self.unknown);
        }
        let mut terms = usual;
        let name = |field: &str| format!("{prefix}{field}");
        if !matches!(self.priority, Field::Missing) {
            terms.priority = faults.required(name("priority"), self.priority).unwrap_or_default();
        }
        if !matches!(self.by, Field::Missing) {
            terms.by = faults.required(name("by"), self.by).flatten();
        }
        if !matches!(self.not_before, Field::Missing) {
            terms.not_before = faults.required(name("not_before"), self.not_before).flatten();
        }
        if terms.by.zip(terms.not_before).is_some_and(|(by, not_before)| by < not_before) {
            faults.add(name("by"), "must not be earlier than not_before");
        }
        if let Some(Days(days)) = faults.optional(name("min_days"), self.min_days) {
            terms.min_days = Some(days);
        }
        match self.locations {
            ListField::Missing => {}
            ListField::Null(()) => terms.locations = None,
            ListField::Given(given) => terms.locations = locations(faults, &name("locations"), given),
            ListField::Bad(_) => faults.add(name("locations"), "must be a list of texts, or null"),
        }
        if matches!((&self.split, &self.min_split), (Field::Missing, Field::Missing)) {
            return terms;
        }
        let least = faults.optional(name("min_split"), self.min_split);
        let usual = terms.split;
        terms.split = match faults.optional(name("split"), self.split) {
            Some(SplitName::Flag(false)) if least.is_some() => {
                faults.add(name("min_split"), "has no meaning without split");
                Split::Never
            }
            Some(SplitName::Flag(false)) => Split::Never,
            Some(SplitName::Over(_)) => Split::OverLocations(least.unwrap_or(usual.least())),
            None if matches!(usual, Split::OverLocations(_)) => Split::OverLocations(least.unwrap_or(usual.least())),
            Some(SplitName::Flag(true)) | None => Split::Parts(least.unwrap_or(usual.least())),
        };
        terms
    }
}

impl TermsRequest {
    fn is_empty(&self) -> bool {
        self.unknown.is_empty()
            && matches!(self.locations, ListField::Missing)
            && matches!(
                (&self.priority, &self.by, &self.not_before, &self.split, &self.min_split, &self.min_days),
                (Field::Missing, Field::Missing, Field::Missing, Field::Missing, Field::Missing, Field::Missing)
            )
    }
}

/// What a line asks for.
#[derive(Deserialize, ToSchema)]
struct LineRequest {
    /// The product.
    #[serde(default)]
    #[schema(value_type = schemas::Sku, required)]
    sku: Field<Sku>,
    /// Tells lines for one SKU apart.
    #[serde(default)]
    #[schema(value_type = schemas::LineId, default = "1")]
    line: Field<LineId>,
    /// Units, 1 to 1,000,000,000.
    #[serde(default)]
    #[schema(value_type = schemas::Units, required)]
    qty: Field<Quantity>,
    #[serde(flatten)]
    terms: TermsRequest,
}

/// The order that is asked for, if nothing is wrong with it.
pub(crate) fn allocate(faults: &mut Faults, order_id: OrderId, body: OrderRequest) -> Option<Allocate> {
    let usual = body.terms.read(faults, "", Terms::default());
    let when_short = faults.optional("when_short", body.when_short).unwrap_or_default();
    let hold = faults.optional("hold_seconds", body.hold_seconds);
    if hold.is_some() && when_short == WhenShort::Backorder {
        faults.add("hold_seconds", "can't be combined with when_short backorder: holds never wait");
    }
    let lines = body.lines.unwrap_or_default();
    if lines.is_empty() || lines.len() > MAX_LINES {
        faults.add("lines", format!("must be a list of 1 to {MAX_LINES} lines"));
        return None;
    }
    let mut good = Vec::with_capacity(lines.len());
    for (at, line) in lines.into_iter().enumerate() {
        let plain = line.terms.is_empty();
        let usual = usual.clone();
        let terms = if plain { usual } else { line.terms.read(faults, &format!("lines[{at}]."), usual) };
        match (line.sku, line.qty, line.line) {
            (Field::Good(sku), Field::Good(qty), Field::Missing) => good.push((sku, LineId::default(), qty, terms)),
            (Field::Good(sku), Field::Good(qty), Field::Good(line)) => good.push((sku, line, qty, terms)),
            (sku, qty, line) => {
                faults.required(format!("lines[{at}].sku"), sku);
                faults.required(format!("lines[{at}].qty"), qty);
                faults.optional(format!("lines[{at}].line"), line);
            }
        }
    }
    let mut order = Allocate::new(order_id, good).map_err(|error| faults.add("lines", error.to_string())).ok()?;
    (order.when_short, order.hold) = (when_short, hold);
    Some(order)
}

/// For how long a hold is to last from now.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Extension {
    /// Seconds from now, 1 to 2,592,000. A hold never gets shorter.
    #[serde(default)]
    #[schema(value_type = schemas::Seconds, required)]
    hold_seconds: Field<HoldSeconds>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

/// What a line is to ask for. What is left out stays.
#[derive(Deserialize, ToSchema)]
pub(crate) struct LinePatch {
    /// Units, 1 to 1,000,000,000. What is added counts as new.
    #[serde(default)]
    #[schema(value_type = schemas::Units)]
    qty: Field<Quantity>,
    /// Who goes first: higher before lower.
    #[serde(default)]
    #[schema(value_type = schemas::Priority)]
    priority: Field<i32>,
    /// The latest day it may be promised for, inclusive; null: any.
    #[serde(default)]
    #[schema(value_type = Option<schemas::Day>)]
    by: Field<Eta>,
    /// What to do when there is not enough, as with a new line.
    #[serde(default)]
    #[schema(value_type = schemas::WhenShortName, default = "reject")]
    when_short: Field<WhenShort>,
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Unknown,
}

pub(crate) fn promise(faults: &mut Faults, about: &Names, body: OrderRequest) -> Option<Command> {
    let order_id = about.get::<OrderId>(faults, "order_id")?;
    allocate(faults, order_id, body).map(Command::Allocate)
}

pub(crate) fn confirm(faults: &mut Faults, about: &Names, Nothing { unknown }: Nothing) -> Option<Command> {
    faults.unknown("", &unknown);
    Some(Command::ConfirmHold(ConfirmHold { order_id: about.get(faults, "order_id")? }))
}

pub(crate) fn extend(faults: &mut Faults, about: &Names, body: Extension) -> Option<Command> {
    let order_id = about.get::<OrderId>(faults, "order_id");
    let hold = faults.required("hold_seconds", body.hold_seconds);
    faults.unknown("", &body.unknown);
    Some(Command::ExtendHold(ExtendHold { order_id: order_id?, hold: hold? }))
}

pub(crate) fn change_line(faults: &mut Faults, about: &Names, body: LinePatch) -> Option<Command> {
    let order_id = about.get::<OrderId>(faults, "order_id");
    let sku = about.get::<Sku>(faults, "sku");
    let line = about.optional::<LineId>(faults, "line").unwrap_or_default();
    let change = LineChange {
        qty: faults.optional("qty", body.qty),
        priority: faults.optional("priority", body.priority),
        by: faults.optional("by", body.by),
        when_short: faults.optional("when_short", body.when_short).unwrap_or_default(),
    };
    faults.unknown("", &body.unknown);
    Some(Command::ChangeLine(ChangeLine { sku: sku?, line: LineKey { order_id: order_id?, line }, change }))
}

/// Of the whole order unless a SKU is named, and of all its lines for that unless one is.
pub(crate) fn cancel(faults: &mut Faults, about: &Names, Nothing { unknown }: Nothing) -> Option<Command> {
    faults.unknown("", &unknown);
    let order_id = about.get::<OrderId>(faults, "order_id");
    let sku = about.optional::<Sku>(faults, "sku");
    let line = about.optional::<LineId>(faults, "line");
    if line.is_some() && sku.is_none() {
        faults.add("line", "has no meaning without sku");
    }
    Some(Command::Deallocate(Deallocate { order_id: order_id?, sku, line }))
}
