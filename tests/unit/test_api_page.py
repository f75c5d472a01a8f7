"""How numbers and times are told to people."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from normalizer.api import page, rendering
from normalizer.api.access import Role
from normalizer.api.live import Live, Snapshot
from normalizer.api.uploads import file_name
from normalizer.api.views import Progress
from normalizer.domain.decision import Reason


def test_what_watchers_see_is_rendered_once_a_role_and_reading() -> None:
    backend: Any = None
    live, rendered = Live(backend), []
    first, second = (Snapshot(datetime.now(UTC), None, Progress(), (), 0) for _ in range(2))

    def render(snapshot: Snapshot) -> int:
        rendered.append(snapshot)
        return len(rendered)

    assert [live.once(first, role, render) for role in (Role.READER, Role.OPERATOR, Role.READER)] == [1, 2, 1]
    assert [live.once(second, Role.READER, render) for _ in range(500)] == [3] * 500


def _snapshot(*, trouble: str | None = None, workers: int = 1, due: int = 0, untold: int = 0, **left: int) -> Snapshot:
    queue = SimpleNamespace(due=due, deferred=0, running=0, replicas=[object()] * workers)
    overview: Any = SimpleNamespace(queue=queue, untold=untold)
    return Snapshot(datetime.now(UTC), overview, Progress(regras=1, total=1, **left), (), 1, trouble=trouble)


@pytest.mark.parametrize(
    ("told", "well"),
    [
        ({}, True),
        ({"trouble": "O Redis não responde."}, False),
        ({"workers": 0}, False),
        ({"due": 1}, False),
        ({"untold": 1}, False),
        ({"pendente": 1}, False),  # stored, and not in the queue yet
        ({"revisar": 1}, False),
        ({"falhou": 1}, False),
    ],
)
def test_all_is_well_only_where_nothing_is_left_to_do(told: dict[str, Any], well: bool) -> None:
    snapshot = _snapshot(**told)
    context = {"snapshot": snapshot, "queue": None, "workers": [], "eta_s": None}
    card = rendering.templates.get_template("_cartoes.html").render(context)
    assert ("em dia" in card) is well
    assert ("em dia" in page._outcome(snapshot)) is well


def test_a_moment_is_told_in_brasilia() -> None:
    assert rendering.moment(datetime(2020, 1, 1, 2, 30, tzinfo=UTC)) == "31/12 23:30"
    assert rendering.moment(None) == "–"


def test_the_bar_is_filled_by_its_parts() -> None:
    parts = rendering.segments(Progress(cache=1, regras=2, pendente=1, total=4))
    assert [(name, count, start, width) for name, _, count, start, width in parts] == [
        ("cache", 1, 0.0, 25.0),
        ("regras", 2, 25.0, 50.0),
        ("pendente", 1, 75.0, 25.0),
    ]
    assert rendering.segments(Progress()) == []


def test_an_address_in_one_line() -> None:
    value = {"rua": "Rua A", "numero": "1", "bairro": None, "cidade": "Campinas", "estado": "SP", "cep": "13010-000"}
    assert rendering.one_line(value) == "Rua A, 1, Campinas - SP, 13010-000"
    assert rendering.one_line(None) == ""


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_its_advice(reason: Reason) -> None:
    assert rendering.for_cause(reason.value) != rendering.for_cause("quarentena")
    assert not re.search(r"[A-Z]+_[A-Z]+|[a-z]\.[a-z]|log|backend", rendering.for_cause(reason.value)), "jargon"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, "planilha enviada"),
        ("../../etc/passwd", "passwd"),
        ("C:\\a\\b.xls", "b.xls"),
        ("a\r\nb\x00.csv", "ab.csv"),
    ],
)
def test_a_files_name_is_a_name(given: str | None, kept: str) -> None:
    assert file_name(given) == kept
    assert len(file_name("x" * 1000)) <= 120
