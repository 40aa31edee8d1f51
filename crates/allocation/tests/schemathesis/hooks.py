"""What Schemathesis is told of this API beside its document."""

import re

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData

# What JSON Schema can't say of a request, as the service says it.
RULES = [
    # Keys are counted in bytes.
    r"must be at most \d+ bytes, not \d+$",
    # A day that its month does not have.
    r"must be a date like",
    # What one field means for another.
    r"(^|\.)by: must not be earlier than not_before$",
    r"min_split: has no meaning without split$",
    r"^hold_seconds: can't be combined with when_short backorder",
    r"restocked: (has no meaning without low_stock|must be more than low_stock)$",
    r"^qty: must be a whole number from 1 to 1000000000$",
    # Lines of one key are added up, and can't have two sets of terms.
    r"^lines: the lines for .* with the same `line` differ in more than quantity$",
    # Locations in order of preference.
    r"locations: must be 1 to 64 locations, each once$",
    r"^limit: is for pages, and CSV has none$",
    # Opaque.
    r"^after: must be (the )?`next` of (the page before|another page)$",
    # A position has 63 bits.
    r"^Last-Event-ID: must be a whole number from 0$",
    # Who is told by a webhook must be a host that can be told.
    r"^url: ",
]
# Refusals that depend on what there is.
KINDS = {"unknown-sku", "key-reused", "expiry-missing"}
COMPLAINTS = [r"^Invalid sku ", r"is known with|has .* units|cancelled|already|exists"]


def _refused_rightly(response):
    body = response.json()
    if "message" in body:
        faults = body["message"].split("; ")
        return all(any(re.search(rule, fault) for rule in RULES + COMPLAINTS) for fault in faults)
    kind = body["type"].removeprefix("urn:allocation:problem:")
    faults = [f"{error['field']}: {error['detail']}" for error in body.get("errors", [])]
    if kind != "invalid":
        return kind in KINDS
    return bool(faults) and all(any(re.search(rule, fault) for rule in RULES) for fault in faults)


@schemathesis.check
def a_valid_request_is_refused_for_what_no_schema_says(ctx, response, case):
    """Of requests that the document allows, only those are refused as invalid that break a rule which it can't state."""
    if response.status_code in (400, 422) and case.meta is not None and case.meta.generation.mode.is_positive:
        assert _refused_rightly(response), f"refused as invalid: {response.text}"


@schemathesis.hook
def before_load_schema(context, raw_schema):
    # The document says so in words: utoipa has no place for it.
    for path in raw_schema["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "query":
                    parameter["allowEmptyValue"] = True


@schemathesis.hook
def filter_failure(context, failure, case, response):
    # HTTP has it that who does not know a header passes over it.
    unknown = "x-schemathesis-unknown-property" in (case.headers or {})
    return not (unknown and isinstance(failure, AcceptedNegativeData))


@schemathesis.hook
def before_call(context, case, kwargs):
    # A minute for an answer is much for a test of thousands.
    if case.operation.path == "/v1/events" and isinstance(case.query, dict) and "wait" in case.query:
        if str(case.query["wait"]) in map(str, range(2, 61)):
            case.query["wait"] = 1
