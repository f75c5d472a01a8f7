"""What leaves a repository: no error of pymongo, and no generator that stays open."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from normalizer.errors import Misconfigured, StoreUnavailable
from normalizer.store.connection import translating


@translating
class Repository:
    """Fails as MongoDB does."""

    def __init__(self) -> None:
        self.closed = False

    async def one(self) -> None:
        """Fails at once."""
        raise AutoReconnect("mongodb://user:secret@host")

    async def killed(self) -> AsyncGenerator[int, None]:
        """Fails as its cursor is closed."""
        try:
            yield 1
        finally:
            raise AutoReconnect("mongodb://user:secret@host")

    async def many(self) -> AsyncGenerator[int, None]:
        """Fails at the second."""
        try:
            yield 1
            raise OperationFailure("not authorized on {secret}", 13)
        finally:
            self.closed = True


async def test_a_method_raises_our_errors_without_the_servers_text():
    with pytest.raises(StoreUnavailable) as told:
        await Repository().one()
    assert "secret" not in str(told.value)


async def test_so_does_a_list_after_what_it_has_given():
    found = Repository().many()
    assert await anext(found) == 1
    with pytest.raises(Misconfigured) as told:
        await anext(found)
    assert "secret" not in str(told.value)


async def test_a_list_that_is_left_early_is_closed():
    repository = Repository()
    found = repository.many()
    assert await anext(found) == 1
    await found.aclose()
    assert repository.closed


async def test_what_fails_while_a_list_is_closed_is_translated_too():
    found = Repository().killed()
    assert await anext(found) == 1
    with pytest.raises(StoreUnavailable):
        await found.aclose()
