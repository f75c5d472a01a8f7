"""What the workers' journals prove: which question to the model was asked again and why, how fast jobs were taken over.

Pure: events in, findings out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.acceptance.harness import Event


@dataclass(frozen=True, slots=True)
class Outage:
    """From when to when a process (None: everyone) was frozen or without Redis, so that nobody could be told."""

    since: float
    until: float
    pid: int | None


@dataclass
class Calls:
    """How often questions were asked, and why again."""

    asked: int = 0
    again: Counter[str] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        why = ", ".join(f"{count} {reason}" for reason, count in self.again.items()) or "none"
        return f"{self.asked} asked; again: {why}"


@dataclass(slots=True)
class _Ask:
    """One question in one call: when, by whom, and what became of it."""

    at: float
    pid: int
    ended: float | None = None
    answered: bool = False
    cached: float | None = None


def explain_calls(events: Sequence[Event], *, killed: Mapping[int, float], outages: Iterable[Outage]) -> Calls:
    """Explain every question that was asked more than once.

    Legitimate: the earlier call failed, or died with its process before its answer was in the cache, or its process
    (or the later one) was cut off, so that neither could know of the other. Everything else is unexplained.
    """
    outages = list(outages)
    calls = Calls()
    for text, asks in _asks(events).items():
        calls.asked += len(asks)
        for earlier, later in pairwise(asks):
            reason = _why(earlier, later, killed, outages)
            if reason is None:
                calls.unexplained.append(f"{hash(text) & 0xFFFF:04x}: {earlier} then {later}")
            else:
                calls.again[reason] += 1
    return calls


def _asks(events: Sequence[Event]) -> dict[str, list[_Ask]]:
    asks: dict[str, list[_Ask]] = defaultdict(list)
    for event in events:
        if event.what == "asked":
            for text in event.items:
                asks[text].append(_Ask(event.at, event.pid))
        elif event.what in {"answered", "unanswered", "cached"}:
            for text in event.items:
                mine = [ask for ask in asks[text] if ask.pid == event.pid]
                if mine and event.what == "cached":
                    mine[-1].cached = event.at
                elif mine:
                    mine[-1].ended, mine[-1].answered = event.at, event.what == "answered"
    return asks


def _why(earlier: _Ask, later: _Ask, killed: Mapping[int, float], outages: Sequence[Outage]) -> str | None:
    if earlier.ended is not None and not earlier.answered and earlier.ended <= later.at:
        return "after a failed call"
    died = killed.get(earlier.pid)
    if died is not None and died <= later.at and (earlier.cached is None):
        return "because the answer died with its process"
    cut_off = any(
        outage.pid in {None, earlier.pid, later.pid} and outage.since <= later.at and outage.until >= earlier.at
        for outage in outages
    )
    return "by a process that was cut off, or for one" if cut_off else None


def recoveries(events: Sequence[Event], killed: Mapping[int, float]) -> list[float]:
    """For each killed process that held jobs: the seconds until another process claimed the first of them."""
    found = []
    for pid, died in killed.items():
        held: set[str] = set()
        for event in events:
            if event.pid == pid and event.what == "claimed":
                held |= event.items
            elif event.pid == pid and event.what in {"settling", "settled"}:
                held -= event.items
        claims = [(event.at, event.items & held) for event in events if event.what == "claimed" and event.at > died]
        first = min((at for at, items in claims if items), default=None)
        if held and first is not None:
            found.append(first - died)
    return found
