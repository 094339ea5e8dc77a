"""The error tree: every failure that crosses a layer, a process or the API has a type and a stable code here.

An `assert` is for our own invariants; these are for the world: bad input, full pools, lost peers.
"""

from typing import ClassVar


class PrfaasError(Exception):
    """Base of all typed failures. `code` is stable: it is a metric label, a field on the wire and in API errors."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False


class ConfigError(PrfaasError):
    """A configuration that cannot be used; the message lists every fault with its place and what to change."""

    code = "config_invalid"


class ModelError(PrfaasError):
    """A checkpoint that cannot be served; the message names the file or tensor."""

    code = "model_invalid"


class UnsupportedModelError(ModelError):
    """An architecture, or a variant of one, that no family here implements."""

    code = "model_unsupported"


class RequestError(PrfaasError):
    """The client's mistake; repeating the same request cannot succeed."""

    code = "invalid_request"


class ContextLengthError(RequestError):
    """Prompt plus requested tokens do not fit in the model's context."""

    code = "context_length_exceeded"


class CapacityError(PrfaasError):
    """A request that this instance can never hold: it needs more pages than the whole pool has."""

    code = "capacity_exceeded"


class PoolError(PrfaasError):
    """Pages used against the pool's rules: freed twice, or an id that is not allocated."""

    code = "pool_misuse"


class UnknownBlockError(PrfaasError):
    """A block hash that the prefix cache does not know, or not as what it was taken for."""

    code = "unknown_block"


class LeaseError(PrfaasError):
    """A lease on cached blocks that has ended, or was never given."""

    code = "lease_stale"


class NotNowError(PrfaasError):
    """Nothing is wrong with the request: it is worth another try after `retry_after_s`."""

    code = "not_now"
    retryable = True

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(NotNowError):
    """No instance can take the request now (none registered, all stale or draining)."""

    code = "unavailable"


class DrainingError(UnavailableError):
    """The instance finishes what it has and takes nothing new."""

    code = "draining"


class ContendedError(NotNowError):
    """Instances are there, and have so much to do that the request would come too late."""

    code = "contended"


class RateLimitError(NotNowError):
    """An API key has used up what it may use for now."""

    code = "rate_limit_exceeded"


class CancelledError(PrfaasError):
    """The client, or a caller on its behalf, gave the request up."""

    code = "cancelled"


class EngineError(PrfaasError):
    """The engine could not go on with a request (the message says why); others go on."""

    code = "engine_failed"
    retryable = True


class PeerLostError(PrfaasError):
    """A connection to another instance died or never came up."""

    code = "peer_lost"
    retryable = True


class PeerRefusedError(PrfaasError):
    """A peer whose certificate, or name in it, is not one that this fleet trusts; or one that was ejected."""

    code = "peer_refused"


class NoRoomError(PrfaasError):
    """Memory that was asked for only if nobody else needs it, and somebody does."""

    code = "no_room"


class TransferError(PrfaasError):
    """A KV transfer that did not commit. Subclasses say why; nothing of it is ever used for decoding."""

    code = "transfer_failed"
    retryable = True


class WireError(TransferError):
    """Bytes that are not a valid frame of this protocol version."""

    code = "wire_invalid"


class TicketError(TransferError):
    """A transfer id, epoch or secret that the receiver did not hand out, or no longer honours."""

    code = "ticket_refused"


class DigestError(TransferError):
    """A payload whose digest is not the one in its header or in the manifest."""

    code = "digest_mismatch"


class ManifestError(TransferError):
    """A manifest that is incomplete, or that disagrees with what arrived or with the receiver's model."""

    code = "manifest_invalid"


class PrefixGoneError(TransferError):
    """A prefix that was to be sent because it was cached, and is not cached here (any more)."""

    code = "prefix_gone"


class DeadlineError(TransferError):
    """No progress, or no end, within the time allowed."""

    code = "deadline_exceeded"


def _tree(root: type[PrfaasError]) -> dict[str, type[PrfaasError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


BY_CODE: dict[str, type[PrfaasError]] = _tree(PrfaasError)


def from_code(code: str, message: str) -> PrfaasError:
    """The typed error for a `code` that came over the wire; an unknown code becomes the base class."""
    return BY_CODE.get(code, PrfaasError)(message)
