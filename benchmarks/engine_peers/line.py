"""A peer's end of its line: one line of JSON asks, one answers. Needs nothing but Python, whoever's environment it is.

Peers print what they like: their standard output becomes their log, and only answers go to whoever asked.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

Answer = Callable[[dict[str, Any]], dict[str, float]]


class Line:
    """Made before anything is printed."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def serve(self, answer: Answer) -> None:
        """Says that the peer is ready, then answers until its input ends; in between it is blocked."""
        self._say({})
        for question in sys.stdin:
            self._say(answer(json.loads(question)))

    def _say(self, what: dict[str, float]) -> None:
        print(json.dumps(what), file=self._answers, flush=True)
