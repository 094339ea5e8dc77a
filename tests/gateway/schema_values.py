"""Values that fit a schema of the OpenAPI document, for hypothesis: small ones, of which many can be tried."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from tests.gateway.schema_fits import Schema, Schemas, resolved

Values = st.SearchStrategy[Any]

SMALL = 3
"""Of parts, characters or optional fields."""

NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
any_json: Values = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=SMALL),
    lambda inner: st.lists(inner, max_size=SMALL) | st.dictionaries(st.text(max_size=SMALL), inner, max_size=SMALL),
    max_leaves=SMALL,
)


def values(schema: Schema, schemas: Schemas) -> Values:
    """Of every alternative, and of every value of an enumeration, equally often."""
    schema = resolved(schema, schemas)
    if options := schema.get("anyOf", schema.get("oneOf")):
        return st.one_of([values(option, schemas) for option in options])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    match schema.get("type"):
        case "object":
            return _objects(schema, schemas)
        case "array":
            low, high = _sizes(schema, "Items")
            return st.lists(values(schema.get("items", {}), schemas), min_size=low, max_size=high)
        case kind:
            return _plain(kind, schema)


def _plain(kind: str | None, schema: Schema) -> Values:
    match kind:
        case "string":
            low, high = _sizes(schema, "Length")
            return st.text(min_size=low, max_size=high)
        case "integer":
            return st.integers(schema.get("minimum"), schema.get("maximum"))
        case "number":
            return _floats(schema)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case None:
            return any_json
        case _:
            raise AssertionError(f"the document has a type that this file does not know: {kind}")


def _floats(schema: Schema) -> Values:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    return st.floats(
        low, schema.get("maximum"), exclude_min="minimum" not in schema and low is not None, allow_nan=False
    ).filter(lambda value: abs(value) != float("inf"))


def _sizes(schema: Schema, what: str) -> tuple[int, int]:
    low = schema.get(f"min{what}", 0)
    return low, min(schema.get(f"max{what}", low + SMALL), low + SMALL)


def _objects(schema: Schema, schemas: Schemas) -> Values:
    known: Mapping[str, Schema] = schema.get("properties", {})
    required = set(schema.get("required", ()))
    optional = sorted(known.keys() - required)
    own = st.lists(st.sampled_from(optional), max_size=SMALL, unique=True) if optional else st.just([])
    more = schema.get("additionalProperties", True)
    if more is False:
        return own.flatmap(lambda chosen: _fields(sorted(required) + chosen, known, schemas))
    names = values({"type": "string", **schema.get("propertyNames", {})}, schemas)
    others = values({} if more is True else more, schemas)
    rest = st.dictionaries(names, others, max_size=SMALL)
    fields = own.flatmap(lambda chosen: _fields(sorted(required) + chosen, known, schemas))
    return st.builds(lambda extra, fixed: {**extra, **fixed}, rest, fields)


def _fields(names: list[str], known: Mapping[str, Schema], schemas: Schemas) -> Values:
    return st.fixed_dictionaries({name: values(known[name], schemas) for name in names})
