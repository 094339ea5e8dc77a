"""Which changes of an instance's load routers should hear of before the next heartbeat. Sends nothing."""

from prfaas.control.v1 import fleet_pb2 as pb

SHARE = 0.25
"""Of the larger of two numbers that they must differ by."""
LEAST_REQUESTS = 4
LEAST_TOKENS = 4096
"""Smaller changes steer no request elsewhere, and every message costs each router some of its time."""


def noticeable(told: pb.Load, now: pb.Load) -> bool:
    """Whether `now` is news to a router that knows `told`."""
    if (told.draining, told.converting_to) != (now.draining, now.converting_to):
        return True
    return _moved(_requests(told), _requests(now), LEAST_REQUESTS) or _moved(
        told.waiting_tokens, now.waiting_tokens, LEAST_TOKENS
    )


def _requests(load: pb.Load) -> int:
    return load.waiting_requests + load.running_requests


def _moved(before: int, after: int, least: int) -> bool:
    return abs(after - before) >= max(least, SHARE * max(before, after))
