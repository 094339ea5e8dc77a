"""Whether a value is as a schema of the OpenAPI document says: as much of JSON Schema as that document uses."""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
Schemas = Mapping[str, Schema]
"""Those that others refer to, by name."""


def resolved(schema: Schema, schemas: Schemas) -> Schema:
    """The schema itself, or what it refers to."""
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def fits(value: Any, schema: Schema, schemas: Schemas) -> bool:
    """Of several alternatives one is enough; the document's are told apart by constants."""
    schema = resolved(schema, schemas)
    if options := schema.get("anyOf", schema.get("oneOf")):
        return any(fits(value, option, schemas) for option in options)
    if "const" in schema or "enum" in schema:
        return any(_same(value, option) for option in schema.get("enum", [schema.get("const")]))
    match schema.get("type"):
        case "object":
            return isinstance(value, dict) and _object_fits(value, schema, schemas)
        case "array":
            items = schema.get("items", {})
            fit = isinstance(value, list) and _size_fits(value, schema, "Items")
            return fit and all(fits(item, items, schemas) for item in value)
        case "string":
            return isinstance(value, str) and _size_fits(value, schema, "Length")
        case kind:
            return _plain_fits(value, kind, schema)


def _plain_fits(value: Any, kind: str | None, schema: Schema) -> bool:
    match kind:
        case "integer":
            return _number_fits(value, schema, (int,))
        case "number":
            return _number_fits(value, schema, (int, float))
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case None:
            return True
        case _:
            raise AssertionError(f"the document has a type that this file does not know: {kind}")


def _object_fits(value: dict[str, Any], schema: Schema, schemas: Schemas) -> bool:
    known: Schemas = schema.get("properties", {})
    if not (set(schema.get("required", ())) <= value.keys() and _size_fits(value, schema, "Properties")):
        return False
    if not all(fits(name, schema.get("propertyNames", {}), schemas) for name in value):
        return False
    more = schema.get("additionalProperties", True)
    others = {} if more is True else more
    return all(
        fits(item, known[name], schemas) if name in known else others is not False and fits(item, others, schemas)
        for name, item in value.items()
    )


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and value == other


def _size_fits(value: Any, schema: Schema, what: str) -> bool:
    return bool(schema.get(f"min{what}", 0) <= len(value) <= schema.get(f"max{what}", len(value)))


def _number_fits(value: Any, schema: Schema, kinds: tuple[type, ...]) -> bool:
    if not isinstance(value, kinds) or isinstance(value, bool):
        return False
    assert isinstance(value, int | float)
    low, high = schema.get("minimum", value), schema.get("maximum", value)
    return bool(low <= value <= high and value > schema.get("exclusiveMinimum", float("-inf")))
