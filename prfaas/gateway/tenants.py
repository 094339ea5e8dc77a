"""Who sends a request, by its API key, and what each may use. Keys themselves are known nowhere, only their digests."""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from prfaas.config.sections import ApiKeySection, Priority
from prfaas.core.clock import Clock
from prfaas.core.errors import RateLimitError, RequestError
from prfaas.gateway.token_bucket import TokenBucket


@dataclass(frozen=True, slots=True)
class Tenant:
    """One API key: its class, its buckets, and its part of the prefix caches."""

    name: str = ""
    """Empty: everybody, where no keys are configured."""
    digest: bytes = b""
    own_priority: Priority = "interactive"
    requests: TokenBucket | None = None
    tokens: TokenBucket | None = None

    def priority(self, wanted: Priority | None) -> Priority:
        """Of a request that asks for `wanted`: nobody gets above the class of the key."""
        return "batch" if "batch" in (wanted, self.own_priority) else "interactive"

    def cache_salt(self, wanted: str) -> str:
        """A salt that no other tenant can name or guess, so that prefixes are never shared with another.

        It comes from the digest, not the name: names of blocks are no cryptographic hashes, and who knows a salt could
        look for prompts whose names meet those of another's.
        """
        return hmac.digest(self.digest, wanted.encode(), "sha256").hex() if self.digest else wanted

    def count_request(self) -> None:
        """Raises RateLimitError where its requests come too fast."""
        if self.requests and (wait_s := self.requests.take(1)):
            raise RateLimitError(
                f"API key {self.name!r} may send {self.requests.per_s:g} requests a second, and "
                f"{self.requests.burst:g} at once; wait {wait_s:.1f} s",
                wait_s,
            )

    def take_tokens(self, tokens: int) -> None:
        """Raises RateLimitError where they are not there now, RequestError where the bucket never holds so many."""
        bucket = self.tokens
        if bucket is None:
            return
        if tokens > bucket.burst:
            raise RequestError(
                f"prompt and answer may take {tokens} tokens, and API key {self.name!r} may use {bucket.burst:g} at "
                "once; shorten the prompt or lower max_tokens"
            )
        if wait_s := bucket.take(tokens):
            raise RateLimitError(
                f"API key {self.name!r} may use {bucket.per_s:g} tokens a second; prompt and answer may take {tokens}: "
                f"wait {wait_s:.1f} s, or lower max_tokens",
                wait_s,
            )

    def give_back_tokens(self, tokens: int) -> None:
        """Those that were taken and not used."""
        if self.tokens:
            self.tokens.give_back(tokens)


class Tenants:
    """All API keys of a fleet file."""

    def __init__(self, sections: Iterable[ApiKeySection], clock: Clock) -> None:
        self._all = [_tenant(section, clock) for section in sections]

    @property
    def closed(self) -> bool:
        """Whether a key is needed."""
        return bool(self._all)

    def find(self, key: bytes) -> Tenant | None:
        """Whose key it is. Takes as long whether it is known or not, and whichever it is."""
        digest = hashlib.sha256(key).digest()
        found = None
        for tenant in self._all:
            if hmac.compare_digest(tenant.digest, digest):
                found = tenant
        return found


def _tenant(section: ApiKeySection, clock: Clock) -> Tenant:
    return Tenant(
        name=section.name,
        digest=bytes.fromhex(section.sha256),
        own_priority=section.priority,
        requests=TokenBucket(section.requests_per_s, section.burst, clock) if section.requests_per_s else None,
        tokens=TokenBucket(section.tokens_per_s, section.token_burst, clock) if section.tokens_per_s else None,
    )
