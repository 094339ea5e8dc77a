"""Cached prefixes that leave for other instances, or come from them: the pages they take meanwhile.

Stands beside the scheduler: a move computes nothing, takes no request's turn, and leaves to requests what they need.
Knows no sockets and copies no bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prfaas.cache.prefix_cache import PrefixCache
from prfaas.core.errors import NoRoomError, PrefixGoneError, RequestError
from prfaas.core.ids import BlockHash, RequestId
from prfaas.core.request import Request
from prfaas.engine.messages import Admitted

_KEEP_FREE_SHARE = 16
"""A prefix that comes leaves one page in so many to requests that run."""


@dataclass(slots=True, eq=False)
class _Move:
    request: Request
    hashes: Sequence[BlockHash]
    pages: tuple[int, ...]
    state_pages: tuple[int, ...]
    held: int
    """Leading blocks that were cached when it began: nobody writes their pages."""
    gives_way: bool = False


class PrefixMoves:
    """For the step loop's thread. Whatever moves is held until `release`."""

    def __init__(
        self, cache: PrefixCache, names: Callable[[Request], Sequence[BlockHash]], wanted_pages: Callable[[], int]
    ) -> None:
        """`names` of a prompt's whole blocks; `wanted_pages`: what waiting requests will take."""
        self._cache = cache
        self._names = names
        self._wanted_pages = wanted_pages
        self._lent: dict[RequestId, _Move] = {}
        self._coming: dict[RequestId, _Move] = {}

    def lend(self, request: Request) -> Admitted:
        """Holds the prompt's blocks and the snapshot at its end. Raises PrefixGoneError unless all is cached."""
        cache, hashes = self._cache, self._named(request)
        match = cache.match(hashes)
        if not hashes or match.usable_blocks < len(hashes):
            usable = match.usable_blocks * cache.block_tokens
            raise PrefixGoneError(f"of a prefix of {request.prompt_tokens} tokens only {usable} are cached; compute it")
        pages = cache.pin(match, len(hashes), snapshot=True)
        self._lent[request.request_id] = _Move(request, hashes, pages, match.snapshot, len(hashes))
        pool, tokens = cache.pool, request.prompt_tokens
        return Admitted(
            request.request_id,
            pages,
            match.snapshot,
            queue_s=0.0,
            cached_tokens=tokens,
            held_tokens=tokens,
            lossy_tokens=pool.marked_until(pages) * cache.block_tokens,
            lossy_state=any(map(pool.lossy, match.snapshot)),
        )

    def reserve(self, request: Request) -> Admitted:
        """Pages for the blocks that are not cached, and for the states at the end; none where nothing is missing.

        Raises NoRoomError where requests need the memory, that of waiting ones included.
        """
        cache, hashes = self._cache, self._named(request)
        match, size = cache.match(hashes), cache.block_tokens
        held = len(match.pages)
        if not hashes:
            raise NoRoomError("no prefixes are kept here; set engine.prefix_cache.enabled")
        if match.usable_blocks == len(hashes):
            tokens = request.prompt_tokens
            return Admitted(request.request_id, (), (), queue_s=0.0, cached_tokens=tokens, held_tokens=tokens)
        needed = len(hashes) - held + cache.state_pages
        keep_free = self._wanted_pages() + -(-cache.pool.size // _KEEP_FREE_SHARE)
        spare = cache.available - cache.pin_cost(match, held, snapshot=False) - keep_free
        if needed > spare:
            raise NoRoomError(
                f"a prefix of {request.prompt_tokens} tokens needs {needed} pages, requests leave {max(0, spare)}"
            )
        pinned = cache.pin(match, held, snapshot=False)
        fresh = cache.allocate(needed)
        assert fresh is not None
        pages, state_pages = pinned + fresh[: len(hashes) - held], fresh[len(hashes) - held :]
        self._coming[request.request_id] = _Move(request, hashes, pages, state_pages, held)
        return Admitted(
            request.request_id,
            pages,
            state_pages,
            queue_s=0.0,
            cached_tokens=match.usable_blocks * size,
            held_tokens=held * size,
        )

    def written(self, request_id: RequestId) -> tuple[int, ...]:
        """Pages of a prefix that came which others have written."""
        move = self._coming.get(request_id)
        return (*move.pages[move.held :], *move.state_pages) if move else ()

    def keep(self, request_id: RequestId, *, lossy: bool) -> Sequence[BlockHash]:
        """The cache learns of a prefix that has come; the names of its blocks.

        None are where it could not: it was released, or what it follows proved wrong meanwhile.
        """
        move, cache, size = self._coming.get(request_id), self._cache, self._cache.block_tokens
        if move is None or cache.match(move.hashes[: move.held]).pages != move.pages[: move.held]:
            return ()
        if lossy:
            cache.pool.mark_lossy(self.written(request_id))
        tokens = move.request.prompt_token_ids
        blocks = [tokens[i * size : (i + 1) * size] for i in range(move.held, len(move.hashes))]
        parent = move.hashes[move.held - 1] if move.held else None
        others = cache.insert_blocks(parent, move.hashes[move.held :], move.pages[move.held :], blocks)
        cache.insert_snapshot(move.hashes[-1], move.state_pages)
        move.pages += others
        return move.hashes

    def release(self, request_id: RequestId) -> None:
        """Gives back what a move holds; ids of others are ignored."""
        move = self._lent.pop(request_id, None) or self._coming.pop(request_id, None)
        if move is not None:
            self._cache.release((*move.pages, *move.state_pages))

    def give_way(self) -> RequestId | None:
        """The oldest prefix that comes and has not been named here yet; None if there is none."""
        for request_id, move in self._coming.items():
            if not move.gives_way:
                move.gives_way = True
                return request_id
        return None

    def unsound(self) -> list[RequestId]:
        """Prefixes on their way elsewhere of which some blocks have proved wrong."""
        return [i for i, move in self._lent.items() if self._cache.match(move.hashes).pages != move.pages]

    def _named(self, request: Request) -> Sequence[BlockHash]:
        if rest := request.prompt_tokens % self._cache.block_tokens:
            raise RequestError(
                f"a cached prefix ends where a block of {self._cache.block_tokens} tokens does; leave {rest} tokens out"
            )
        return self._names(request)
