"""Compiles a request's grammar before any instance hears of it, so that the client learns at once what is wrong."""

import asyncio

from prfaas.core.errors import ModelError, RequestError
from prfaas.core.request import Grammar
from prfaas.engine.grammar import GrammarCompiler
from prfaas.gateway.errors import ApiError


class GrammarCheck:
    """One grammar at a time, beside the event loop: no more than one thread is ever kept from tokenising prompts."""

    def __init__(self, compiler: GrammarCompiler) -> None:
        self._compiler = compiler
        self._turn = asyncio.Lock()

    async def check(self, grammar: Grammar, field: str) -> None:
        """Raises ApiError 400 that names `field` and says why."""
        try:
            async with self._turn:
                await asyncio.to_thread(self._compiler.compile, grammar)
        except (RequestError, ModelError) as error:
            raise ApiError(400, f"{field}: {error}", param=field, code=RequestError.code) from None
