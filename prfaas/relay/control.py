"""The control resource `/link`: read the link's state, change it in flight. JSON in, JSON out; knows no HTTP."""

import msgspec

from prfaas.core.errors import ConfigError
from prfaas.relay.link import Link
from prfaas.relay.shaping import LinkProfile


def state_json(link: Link) -> bytes:
    return msgspec.json.encode(link.state())


def change(link: Link, body: bytes) -> None:
    """Applies an object of any fields of `LinkProfile`, plus `up`; all of it or nothing.

    Raises:
        ConfigError: not JSON, an unknown field, or a bad value; the message is one line.
    """
    try:
        fields = msgspec.json.decode(body, type=dict[str, object])
        up = msgspec.convert(fields.pop("up", link.up), bool)
        profile = msgspec.convert(msgspec.structs.asdict(link.profile) | fields, LinkProfile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        known = ", ".join((*LinkProfile.__struct_fields__, "up"))
        raise ConfigError(f"{error}; send a JSON object with any of: {known}") from error
    if profile != link.profile:
        link.set_profile(profile)
    link.set_up(up)
