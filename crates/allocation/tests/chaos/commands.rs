//! What is wanted, and how it is said.

use allocation_testing::program::Program;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// How many products there are.
const PRODUCTS: usize = 8;

/// The products that commands are about.
pub(crate) fn products() -> impl Iterator<Item = String> {
    (0..PRODUCTS).map(|n| format!("SKU-{n}"))
}

/// The batch that every product has.
pub(crate) const BATCH: &str = "b";
/// Units in it to begin with.
pub(crate) const UNITS: usize = 1_000_000;

/// One unit of a product is to be promised, or was found damaged; whichever it is, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Command(usize);

impl Command {
    pub(crate) fn nth(n: usize) -> Self {
        Self(n)
    }

    /// Its name: the order's, or the key of the request and the reason that is told.
    pub(crate) fn id(self) -> String {
        format!("c{}", self.0)
    }

    /// The product.
    pub(crate) fn sku(self) -> String {
        format!("SKU-{}", self.0 % PRODUCTS)
    }

    /// Whether units are to be promised.
    pub(crate) fn is_order(self) -> bool {
        (self.0 / PRODUCTS).is_multiple_of(2)
    }

    /// Whether it is sent twice: so is a fifth.
    pub(crate) fn comes_twice(self) -> bool {
        self.0.is_multiple_of(5)
    }

    fn data(self) -> Value {
        if self.is_order() {
            json!({"lines": [{"sku": self.sku(), "qty": 1}]})
        } else {
            json!({"kind": "damaged", "qty": 1, "reason": self.id()})
        }
    }

    fn request(self, client: &Client, program: &Program) -> RequestBuilder {
        let (id, sku) = (self.id(), self.sku());
        let request = if self.is_order() {
            client.put(program.url(&format!("/v1/orders/{id}")))
        } else {
            let path = format!("/v1/products/{sku}/batches/{BATCH}/adjustments");
            client.post(program.url(&path)).header("Idempotency-Key", id)
        };
        request.json(&self.data())
    }

    /// Asks for it over HTTP. `false`: there was no answer, or it was to ask again.
    pub(crate) async fn ask(self, client: &Client, program: &Program) -> bool {
        let once = async || match self.request(client, program).send().await {
            Ok(answer) if answer.status().is_success() => true,
            Ok(answer) => {
                let status = answer.status();
                let problem = answer.text().await.unwrap_or_default();
                let is_handled = status == StatusCode::CONFLICT && problem.contains("key-in-use");
                assert!(is_handled || status == StatusCode::SERVICE_UNAVAILABLE, "{self:?}: {status} {problem}");
                false
            }
            Err(_) => false,
        };
        let (first, second) = match (self.comes_twice(), self.0.is_multiple_of(2)) {
            (false, _) => (once().await, false),
            (true, false) => (once().await, once().await),
            (true, true) => tokio::join!(once(), once()),
        };
        first || second
    }

    /// The same as a message.
    pub(crate) fn message(self) -> String {
        let mut data = self.data();
        let name = if self.is_order() {
            data["order_id"] = self.id().into();
            "allocate"
        } else {
            data["sku"] = self.sku().into();
            data["ref"] = BATCH.into();
            "adjust_batch"
        };
        message(&self.id(), name, &data)
    }

    /// The command that an event is the effect of, unless it is about another product.
    pub(crate) fn behind(event: &Value) -> Option<String> {
        if !event["subject"].as_str()?.starts_with("SKU-") {
            return None;
        }
        let name = match event["type"].as_str()? {
            "allocation.line_allocated.v1" => &event["data"]["order_id"],
            "allocation.batch_adjusted.v1" => &event["data"]["reason"],
            _ => return None,
        };
        name.as_str().map(str::to_owned)
    }
}

/// What a product's `allocated`, `on_hand` and `available` are once the first so many commands are done.
pub(crate) fn numbers_of(sku: &str, commands: usize) -> [usize; 3] {
    let of_it = || (0..commands).map(Command::nth).filter(|command| command.sku() == sku);
    let ordered = of_it().filter(|command| command.is_order()).count();
    let damaged = of_it().count() - ordered;
    [ordered, UNITS - damaged, UNITS - damaged - ordered]
}

/// A message that nobody can use: there is no such order.
pub(crate) fn unusable(n: usize) -> String {
    message(&format!("x{n}"), "pick", &json!({"order_id": format!("x{n}")}))
}

/// A command as a message of this name.
pub(crate) fn message(id: &str, name: &str, data: &Value) -> String {
    let kind = format!("allocation.command.{name}.v1");
    json!({"specversion": "1.0", "id": id, "source": "/chaos", "type": kind, "data": data}).to_string()
}
