"""Keys, roles and sessions."""

from __future__ import annotations

import random

import pytest

from normalizer.api.access import SESSION_S, Access, Role
from normalizer.errors import Misconfigured

OPERATOR, READER, OTHER = (
    "4b1f0c8e6a2d9375f0e1c2b3a4958677",
    "9e8d7c6b5a4f30211f2e3d4c5b6a7980",
    "K7dm-Qz2xVbn_Ltw9pRcY4hs",
)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_each_key_has_its_role_and_no_other_string_has_any() -> None:
    access = Access([OPERATOR, OTHER], [READER])

    assert [access.role_of(key) for key in (OPERATOR, OTHER, READER)] == [Role.OPERATOR, Role.OPERATOR, Role.READER]
    assert [access.role_of(key) for key in ("", OPERATOR[:-1], OPERATOR + "o", "é" * 16)] == [None] * 4


def test_a_session_has_its_role_until_it_ends() -> None:
    clock = Clock()
    access = Access([OPERATOR], [READER], clock=clock)
    operator, reader = access.open_session(Role.OPERATOR), access.open_session(Role.READER)

    assert (access.role_of_session(operator), access.role_of_session(reader)) == (Role.OPERATOR, Role.READER)
    clock.now += SESSION_S + 1
    assert access.role_of_session(operator) is None


def test_each_login_has_a_session_of_its_own_and_leaving_ends_that_one() -> None:
    access = Access([OPERATOR])
    first, second = access.open_session(Role.OPERATOR), access.open_session(Role.OPERATOR)
    assert first != second

    access.close_session(first)

    assert (access.role_of_session(first), access.role_of_session(second)) == (None, Role.OPERATOR)


@pytest.mark.parametrize("forged", ["", ".", "9999999999.00", "x.y", "é.ü", "\udcff"])
def test_a_forged_session_is_none(forged: str) -> None:
    assert Access([OPERATOR]).role_of_session(forged) is None


def test_wrong_keys_are_counted_by_address_and_forgiven() -> None:
    clock = Clock()
    access = Access([OPERATOR], clock=clock)

    assert [access.count_wrong_key("10.0.0.1") for _ in range(3)] == [1, 2, 3]
    assert access.count_wrong_key("10.0.0.2") == 1
    clock.now += 3600
    assert access.count_wrong_key("10.0.0.1") == 1


@pytest.mark.parametrize("key", [OPERATOR, OTHER, "a1" * 4 + "b2c3d4e5f60718293a4b5c6d"])
def test_a_random_key_is_accepted(key: str) -> None:
    assert Access([key]).role_of(key) is Role.OPERATOR


def test_no_key_that_openssl_draws_is_refused() -> None:
    rng = random.Random(7)
    keys = {f"{rng.getrandbits(128):032x}" for _ in range(2_000)}

    assert not Access(sorted(keys)).is_open


@pytest.mark.parametrize(
    ("operators", "readers"),
    [
        (["short"], []),
        (["o" * 40], []),
        (["0123456789abcdef"], []),  # 64 bits
        (["senha-da-clinica-2026"], []),
        (["changeme" * 8 + "!"], []),
        (["1234567890" * 5], []),
        (["abcdefghijklmnopqrstuvwxyz0123456789"], []),
        ([OPERATOR], ["abababababababababababababababab"]),
        ([OPERATOR], [OPERATOR]),
    ],
)
def test_a_key_that_keeps_nobody_out_is_refused(operators: list[str], readers: list[str]) -> None:
    with pytest.raises(Misconfigured) as refused:
        Access(operators, readers)
    assert not any(key in str(refused.value) for key in [*operators, *readers])
