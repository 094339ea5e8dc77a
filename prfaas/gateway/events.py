"""What a decode instance tells of a request, in the router's own words. Knows no streams."""

import msgspec

from prfaas.control.convert import failure_from_pb, logprobs_from_pb
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.core.errors import PrfaasError
from prfaas.core.logprobs import TokenLogprobs
from prfaas.core.request import FinishReason


class Tokens(msgspec.Struct, frozen=True, gc=False):
    """Decode → client: the next tokens of the answer."""

    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One for each token if the request asks for them, else none."""


class Finished(msgspec.Struct, frozen=True):
    """Decode → client: the answer is complete, and this is what it took."""

    reason: FinishReason
    account: pb.Account


Event = Tokens | Finished


def event_from_pb(event: pb.GenerateEvent, peer: str) -> Event | PrfaasError:
    """The failure that ends a request is an error, and so is what `peer` cannot mean."""
    try:
        match event.WhichOneof("event"):
            case "tokens":
                return Tokens(tuple(event.tokens.token_ids), logprobs_from_pb(event.tokens))
            case "finished":
                return Finished(FinishReason(event.finished.reason), event.finished.account)
            case "failure":
                return failure_from_pb(event.failure)
            case _:
                return PrfaasError(f"{peer} sent an event that this router does not know")
    except PrfaasError as error:
        return error
    except ValueError:
        return PrfaasError(f"{peer} ended for an unknown reason {event.finished.reason!r}")
