"""What goes into the engine's process and what comes out; it and its front share nothing else but the cache's bytes.

Each direction carries batches, in order. Knows no sockets.
"""

from typing import Literal

import msgspec

from prfaas.cache.changes import Change
from prfaas.core.ids import BlockHash, RequestId
from prfaas.core.logprobs import TokenLogprobs
from prfaas.core.request import FinishReason, Request
from prfaas.scheduler.sequence import Mode


class _Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Encoded as an array that begins with the class's name."""


class Submit(_Message, frozen=True):
    """Front → engine: a new request."""

    request: Request
    mode: Mode


class BeginDecode(_Message, frozen=True):
    """Front → engine: the KV of an imported request has been committed."""

    request_id: RequestId
    first_token_id: int
    lossy: bool = False
    """Part of it was rounded on the way, so that nobody may round it again."""


class PrefillHere(_Message, frozen=True):
    """Front → engine: the KV of an imported request will not come, or no more of it; compute the rest.

    No byte arrives in its pages any more.
    """

    request_id: RequestId
    verified_tokens: int = 0
    """Leading tokens, those held included, whose KV lies verified in its pages."""
    lossy: bool = False
    """Part of that was rounded on the way, so that nobody may round it again."""


class Release(_Message, frozen=True):
    """Front → engine: forget a request (finished export, or cancelled); unknown ids are ignored."""

    request_id: RequestId


class Lend(_Message, frozen=True):
    """Front → engine: hold what is cached of exactly this prompt, its states included, until `Release`: it is to be
    sent elsewhere. Answered at once, by `Admitted` and `Lent`, or `Failed`."""

    request: Request


class Reserve(_Message, frozen=True):
    """Front → engine: memory for this prefix, which another instance's cache will send, until `Release`.

    Answered at once, by `Admitted` or `Failed`. All of it cached here already: then it is admitted to nothing. `Failed`
    comes later, too, where others need the memory: it is free only with `Release`.
    """

    request: Request


class KeepPrefix(_Message, frozen=True):
    """Front → engine: a reserved prefix has been committed. It goes into the cache, and stays for who asked for it."""

    request_id: RequestId
    wanted_by: tuple[str, ...]
    """Requests that are to come, by the ids that the fleet knows them by."""
    lossy: bool = False
    """Part of it was rounded, on its way here or before, so that nobody may round it again."""


class Announce(_Message, frozen=True):
    """Front → engine: a request whose prompt begins with these blocks will come; what is cached of it must stay.

    `request_id` is the one that the fleet knows it by.
    """

    request_id: str
    block_hashes: tuple[BlockHash, ...]


class Stop(_Message, frozen=True):
    """Front → engine: end after the step that runs now."""


Command = Submit | BeginDecode | PrefillHere | Lend | Reserve | KeepPrefix | Release | Announce | Stop


class Ready(_Message, frozen=True):
    """Engine → front, once: the model is loaded, and requests are taken from now on."""

    fingerprint: str
    vocab_size: int
    compiled_kernels: bool
    """False: there is no compiler here, and torch's own operations do the work that is the CPU's."""
    device: str = "cpu"
    """What the model computes on: "cpu", or a GPU's name."""


class NotReady(_Message, frozen=True):
    """Engine → front, once: the model cannot be served. `code` is of `prfaas.core.errors`."""

    code: str
    message: str


class Admitted(_Message, frozen=True):
    """Engine → front: the request holds its memory. Told once, even if it loses that memory and comes back."""

    request_id: RequestId
    pages: tuple[int, ...]
    state_pages: tuple[int, ...]
    queue_s: float
    cached_tokens: int
    """Leading tokens that are not computed here, because a prefix of the prompt is cached."""
    held_tokens: int
    """Leading tokens whose KV lies in `pages` already: of an import, those that need not be sent."""
    lossy_tokens: int = 0
    """Of the cached ones, those up to the last block that was rounded on its way here from elsewhere."""
    lossy_state: bool = False
    """The states that the request goes on from stem from such an import."""


class LayerDone(_Message, frozen=True):
    """Engine → front: the cache of `layer` holds tokens [start, end) of an export for good.

    Sent while later layers compute. State layers are reported once, for the whole prompt.
    """

    request_id: RequestId
    layer: int
    start: int
    end: int


class Lent(_Message, frozen=True):
    """Engine → front: all of a prefix that was asked for lies in the pages that `Admitted` told, its states too."""

    request_id: RequestId


class Progressed(_Message, frozen=True):
    """Engine → front: so many prompt tokens have been computed."""

    request_id: RequestId
    tokens_done: int


class Prefilled(_Message, frozen=True):
    """Engine → front: the whole prompt was computed here, and every layer of an export reported.

    Queue: admission to first chunk; prefill: to first token.
    """

    request_id: RequestId
    first_token_id: int
    tokens_reused: int
    """Of the prompt, found here at its admission."""
    queue_s: float
    prefill_s: float
    tokens_verified: int = 0
    """Of the prompt, behind those: had come from elsewhere before the rest failed to. The others were computed."""


class Generated(_Message, frozen=True):
    """Engine → front: one more token; with `finish` it is the last, and the memory is free again."""

    request_id: RequestId
    token_id: int
    finish: FinishReason | None
    logprobs: TokenLogprobs | None = None
    """If the request asks for them and the token was drawn here."""


class Failed(_Message, frozen=True):
    """Engine → front: the request ended without its tokens. `code` is of `prfaas.core.errors`.

    Its memory is free, except an export's, which a sender may be reading until `Release`.
    """

    request_id: RequestId
    code: str
    message: str
    reason: Literal["nan", "step"] | None = None
    """What went wrong in the engine; None when the request is at fault."""


class Preempted(_Message, frozen=True):
    """Engine → front: the request gave its memory up to others, and will be computed again and go on."""

    request_id: RequestId


class Stepped(_Message, frozen=True):
    """Engine → front: a step was computed."""

    seconds: float
    forward_seconds: float
    """Of these, inside the decoder; the rest is putting the batch together and drawing tokens."""
    decode_tokens: int
    prefill_tokens: int
    context_tokens: int = 0
    """That the decodes looked back at together, themselves included."""
    prompts_begun: int = 0
    """That had their first chunk in this step..."""
    prompts_done: int = 0
    """...and those that had their last."""
    squared_tokens: int = 0
    """Sum over the chunks [start, end) of end² - start²: twice what attention looked at."""
    late_s: float | None = None
    """How long after the moment that its profile says an emulated step ended; None of a step that was computed."""


class CacheChanged(_Message, frozen=True):
    """Engine → front: what the prefix cache began and ceased to hold, in order."""

    changes: tuple[Change, ...]


class DiskStats(_Message, frozen=True):
    """Part of `PrefixStats`: the tier on disk. Entries are KV blocks and snapshots; counts are since the start."""

    entries: int = 0
    bytes: int = 0
    stored: int = 0
    stored_bytes: int = 0
    loaded: int = 0
    loaded_bytes: int = 0
    corrupt: int = 0
    foreign: int = 0
    dropped: int = 0
    missing: int = 0
    failed: int = 0
    evicted: int = 0
    off: bool = False
    """Nothing is written any more, since writing failed."""


class PrefixStats(_Message, frozen=True):
    """Part of `Stats`: the prefix cache. Counts are since the start."""

    queried_tokens: int = 0
    hit_tokens: int = 0
    blocks: int = 0
    """KV blocks held now."""
    snapshots: int = 0
    """Snapshots of linear states held now."""
    evicted_blocks: int = 0
    evicted_snapshots: int = 0
    skipped_snapshots: int = 0
    """Due, and left out for lack of room."""
    unknown_blocks: int = 0
    """Hashes that the cache was asked to build on, and did not know."""
    stale_leases: int = 0
    """Of announced prefixes, that ended before the request came."""
    disk: DiskStats | None = None


class Stats(_Message, frozen=True):
    """Engine → front: a reading of queues and pools, after each step and about ten times a second within a long one."""

    waiting_requests: int = 0
    running_requests: int = 0
    waiting_tokens: int = 0
    pages_used: int = 0
    """That requests hold."""
    pages_cached: int = 0
    """That hold prefixes and could be taken for anything else."""
    pages_total: int = 0
    prefix: PrefixStats = PrefixStats()
    layers_computed: int = 0
    """Since the start; a watcher tells a long step from a hang by it."""


RequestEvent = Admitted | LayerDone | Lent | Progressed | Prefilled | Generated | Failed
"""What whoever asked for the request hears of it."""
Event = RequestEvent | Preempted | Ready | NotReady | Stepped | CacheChanged | Stats
