//! Scopes: what a credential allows.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// What a route asks for, and a credential allows. None includes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// To read of products, batches, movements, and what could be promised.
    StockRead,
    /// To declare and change stock.
    StockWrite,
    /// To read who is promised what.
    OrdersRead,
    /// To promise, change, pick, ship and take back.
    OrdersWrite,
    /// To read every event, and what is counted of them.
    EventsRead,
    /// To look after what is sent where: webhooks.
    Admin,
}

/// A text is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no scope; there are {known}", known = Scope::ALL.map(Scope::name).join(", "))]
pub struct UnknownScope(String);

impl Scope {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::StockRead, Self::StockWrite, Self::OrdersRead, Self::OrdersWrite, Self::EventsRead, Self::Admin];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StockRead => "stock:read",
            Self::StockWrite => "stock:write",
            Self::OrdersRead => "orders:read",
            Self::OrdersWrite => "orders:write",
            Self::EventsRead => "events:read",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let known = Self::ALL.into_iter().find(|scope| scope.name() == text);
        known.ok_or_else(|| UnknownScope(text.to_owned()))
    }
}

/// Scopes, one at least. As a text they have commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    /// Whether this is one of them.
    pub fn allow(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|scope| scope.name()).collect();
        f.write_str(&names.join(","))
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Self {
        Self([scope].into())
    }
}

impl FromStr for Scopes {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        // An empty text is an unknown scope: there is at least one.
        text.split(',').map(|name| name.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_as_they_are_written_and_nothing_else_is_one() {
        let all = Scope::ALL.map(Scope::name).join(",");
        assert_eq!(all.parse::<Scopes>().unwrap().to_string(), all);
        assert_eq!("orders:read, stock:read".parse::<Scopes>().unwrap().to_string(), "stock:read,orders:read");
        for bad in ["", ",", "stock", "stock:read,", "stock:read orders:read", "ADMIN", "*"] {
            assert!(bad.parse::<Scopes>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_scope_includes_another() {
        for has in Scope::ALL {
            for wants in Scope::ALL {
                assert_eq!(Scopes::from(has).allow(wants), has == wants);
            }
        }
    }
}
