//! Values that statements are sent with.

use time::{Date, OffsetDateTime};
use tokio_postgres::types::{ToSql, Type};

/// A value that knows as what it is sent to a server that was not asked what it takes.
pub(super) trait Value: ToSql + Sync {
    fn sent_as(&self) -> Type;
}

macro_rules! values {
    ($($value:ty: $one:ident, $several:ident;)*) => {
        $(
            impl Value for $value {
                fn sent_as(&self) -> Type {
                    Type::$one
                }
            }
            impl Value for Option<$value> {
                fn sent_as(&self) -> Type {
                    Type::$one
                }
            }
            impl Value for Vec<$value> {
                fn sent_as(&self) -> Type {
                    Type::$several
                }
            }
            impl Value for Vec<Option<$value>> {
                fn sent_as(&self) -> Type {
                    Type::$several
                }
            }
        )*
    };
}

values! {
    String: TEXT, TEXT_ARRAY;
    &str: TEXT, TEXT_ARRAY;
    i64: INT8, INT8_ARRAY;
    i32: INT4, INT4_ARRAY;
    f64: FLOAT8, FLOAT8_ARRAY;
    bool: BOOL, BOOL_ARRAY;
    Date: DATE, DATE_ARRAY;
    OffsetDateTime: TIMESTAMPTZ, TIMESTAMPTZ_ARRAY;
    Vec<u8>: BYTEA, BYTEA_ARRAY;
    &[u8]: BYTEA, BYTEA_ARRAY;
}
