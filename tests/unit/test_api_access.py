"""Keys, roles and sessions."""

from __future__ import annotations

import pytest

from normalizer.api.access import SESSION_S, Access, Role
from normalizer.errors import Misconfigured

OPERATOR, READER = "o" * 16, "r" * 16


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_each_key_has_its_role_and_no_other_string_has_any() -> None:
    access = Access([OPERATOR, "p" * 20], [READER])

    assert [access.role_of(key) for key in (OPERATOR, "p" * 20, READER)] == [Role.OPERATOR, Role.OPERATOR, Role.READER]
    assert [access.role_of(key) for key in ("", OPERATOR[:-1], OPERATOR + "o", "é" * 16)] == [None] * 4


def test_a_session_has_the_role_of_its_key_until_it_ends() -> None:
    clock = Clock()
    access = Access([OPERATOR], [READER], clock=clock)
    operator, reader = access.session(OPERATOR), access.session(READER)

    assert (access.role_of_session(operator), access.role_of_session(reader)) == (Role.OPERATOR, Role.READER)
    clock.now += SESSION_S + 1
    assert access.role_of_session(operator) is None


def test_a_session_ends_with_its_key() -> None:
    session = Access([OPERATOR]).session(OPERATOR)
    assert Access(["n" * 16]).role_of_session(session) is None


@pytest.mark.parametrize("forged", ["", ".", "9999999999.", "9999999999.00", "x.y", "é.ü"])
def test_a_forged_session_is_none(forged: str) -> None:
    assert Access([OPERATOR]).role_of_session(forged) is None


def test_a_session_cannot_be_prolonged() -> None:
    until, signature = Access([OPERATOR]).session(OPERATOR).split(".")
    assert Access([OPERATOR]).role_of_session(f"{int(until) + 1}.{signature}") is None


@pytest.mark.parametrize(("operators", "readers"), [(["short"], []), ([OPERATOR], [OPERATOR])])
def test_a_key_that_keeps_nobody_out_is_refused(operators: list[str], readers: list[str]) -> None:
    with pytest.raises(Misconfigured) as refused:
        Access(operators, readers)
    assert "short" not in str(refused.value)
    assert OPERATOR not in str(refused.value)
