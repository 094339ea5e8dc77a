"""Prompts and requests for tests of the prefix cache: a prompt is a tuple of numbers, one per block."""

from dataclasses import dataclass, field

from prfaas.cache.hashing import block_hashes, root_hash
from prfaas.cache.prefix_cache import PrefixCache
from prfaas.core.ids import BlockHash

Prompt = tuple[int, ...]


def names(prompt: Prompt) -> list[BlockHash]:
    """Blocks of one token each."""
    return block_hashes(root_hash("model", ""), prompt, 1)


@dataclass
class Request:
    """A prompt being computed, and every reference that it has to give back."""

    prompt: Prompt
    done: int
    """Blocks computed, or found."""
    pages: list[int] = field(default_factory=list)
    """One per block."""
    extra: list[int] = field(default_factory=list)
    """Snapshots' pages, and pages of others that hold its blocks."""

    @property
    def held(self) -> list[int]:
        return self.pages + self.extra


def admit(cache: PrefixCache, prompt: Prompt) -> Request | None:
    """As a scheduler does: pins what is usable, takes pages for the rest and its states; None if there is no room."""
    match = cache.match(names(prompt), limit_blocks=len(prompt) - 1)
    rest = len(prompt) - match.usable_blocks + cache.state_pages
    if cache.available - cache.pin_cost(match, match.usable_blocks, snapshot=True) < rest:
        return None
    pinned = cache.pin(match, match.usable_blocks, snapshot=True)
    own = cache.allocate(rest)
    assert own is not None
    kv = own[: rest - cache.state_pages]
    return Request(prompt, match.usable_blocks, [*pinned, *kv], [*match.snapshot, *own[len(kv) :]])


def compute(cache: PrefixCache, request: Request, blocks: int) -> None:
    """Inserts the next `blocks` blocks of a request."""
    start, end = request.done, request.done + blocks
    hashes = names(request.prompt)[:end]
    shared = cache.insert_blocks(
        hashes[start - 1] if start else None,
        hashes[start:],
        request.pages[start:end],
        [(token,) for token in request.prompt[start:end]],
    )
    request.extra += shared
    request.done = end


def snapshot(cache: PrefixCache, request: Request) -> bool:
    """Of the states as far as the request has come, in new pages, if there are some."""
    pages = cache.allocate(cache.state_pages)
    if pages is None:
        return False
    request.extra += pages
    return cache.insert_snapshot(names(request.prompt)[request.done - 1], pages)


def serve(cache: PrefixCache, prompt: Prompt, snapshots: tuple[int, ...] = ()) -> Request:
    """A request from its admission to its end; `snapshots` are taken after so many blocks."""
    request = admit(cache, prompt)
    assert request is not None, "no room"
    for end in sorted({*(s for s in snapshots if s > request.done), len(prompt)}):
        compute(cache, request, end - request.done)
        if end in snapshots and cache.state_pages:
            assert snapshot(cache, request)
    cache.release(request.held)
    return request
