"""Fields by which clients tell their requests apart, and what they ask of storage. Nothing is kept here."""

from typing import Annotated, Literal

from pydantic import Field

from prfaas.gateway.body import Body, OnlyFalse

MAX_METADATA = 16
MAX_METADATA_KEY_CHARS = 64
MAX_METADATA_VALUE_CHARS = 512

Metadata = Annotated[
    dict[
        Annotated[str, Field(max_length=MAX_METADATA_KEY_CHARS)],
        Annotated[str, Field(max_length=MAX_METADATA_VALUE_CHARS)],
    ],
    Field(max_length=MAX_METADATA),
]


class BookkeepingFields(Body):
    """The same for every endpoint that generates."""

    user: str | None = Field(default=None, description="Accepted; nothing depends on it.")
    safety_identifier: str | None = Field(default=None, description="Accepted; nothing depends on it.")
    metadata: Metadata | None = Field(default=None, description="Accepted; nothing is kept.")
    prompt_cache_key: str | None = Field(default=None, description="Accepted; prefixes are found without it.")
    prompt_cache_options: None = None
    prompt_cache_retention: None = Field(default=None, description="Prefixes stay as long as they are worth it.")
    moderation: None = None
    store: OnlyFalse | None = Field(default=None, description="Nothing is stored here.")
    service_tier: Literal["auto", "default", "flex"] | None = Field(
        default=None, description="flex: a request of class batch, which waits while the fleet is busy."
    )
