"""The strict base of all request bodies, and the types that several of them share."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Body(BaseModel):
    """JSON as the client sent it: "5" is not a number, and misspelt fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


TokenId = Annotated[int, Field(ge=0)]
# fail_fast: the report of a list ends at its first fault; a million faults would take a minute and gigabytes to report.
TokenIds = Annotated[list[TokenId], Field(fail_fast=True)]


def _no_number(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError("the input should be a boolean")
    return value


# Python holds 0 and False for equal, and so do pydantic's literals.
OnlyFalse = Annotated[Literal[False], BeforeValidator(_no_number)]
OnlyTrue = Annotated[Literal[True], BeforeValidator(_no_number)]


def string_or_list(value: Any) -> str:
    """The tag of a union's branch, so that an error names what is wrong instead of every alternative."""
    return "<list>" if isinstance(value, list) else "<string>"
