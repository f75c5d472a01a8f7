"""Fate of a model's answers to labelled texts: the `ceiling`, and the `mutations` that pass.

A label, and the words of the text that carry it, go through the real answer path as if a model had said them: no model
can be better than what that path lets through. A mutated label does what small models do (a field swapped, shifted,
dropped, swallowed); hardly one may pass that is not right.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations, islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from normalizer.domain.address import FIELDS, Address, standardize
from normalizer.domain.address.grounding import violations
from normalizer.domain.decision import Settled
from normalizer.domain.text import clean
from normalizer.llm.prompt import Record
from normalizer.llm.redaction import CITY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Answer: TypeAlias = dict[str, str | None]
Row: TypeAlias = dict[str, Any]

_WORD: Final = re.compile(r"\d+|[^\W\d_ºª]+")
_NO_WORDS: Final = frozenset({"n", "no", "nº", "num", "numero"})


@dataclass(slots=True)
class Passed:
    """How many answers were tried, how many passed, and the others (or the wrong ones) by kind."""

    tried: int = 0
    passed: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    rows: list[Row] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Passed of tried."""
        return self.passed / self.tried if self.tried else 0.0


def ceiling(rows: Iterable[Row], judge: Any) -> Passed:
    """Answer each row that has a label with it, and with its words as typed; `kinds` says why what is refused is."""
    found = Passed()
    for row in rows:
        if not row["expected"]:
            continue
        for way, answer in (("label", row["expected"]), ("as typed", verbatim(row["expected"], row["text"], judge))):
            found.tried += 1
            decision = standardize(answer, row["text"])
            if isinstance(decision, Settled) and is_right(decision.value.as_dict(), row, judge):
                found.passed += 1
                continue
            why = _why(row, answer, decision)
            found.kinds[f"{way}: {why}"] += 1
            found.rows.append({"id": row["id"], "way": way, "why": why, "answer": answer})
    return found


def _why(row: Row, answer: Answer, decision: Any) -> str:
    if isinstance(decision, Settled):
        return "passed as another address"
    if answer is row["expected"] and (wrong := violations(row["text"], Address.from_dict(row["expected"]))):
        return ", ".join(dict.fromkeys(f"{each.field} {each.problem.value}" for each in wrong))
    return str(decision.reason.value)


def spoiled_ones(rows: Iterable[Row], judge: Any, *, every: int = 1) -> Passed:
    """Answer each labelled row with mutations of its label; `passed` counts those stored though not right.

    `every`: try the first of so many.
    """
    found = Passed()
    for row in rows:
        if not row["expected"]:
            continue
        for kind, answer in islice(mutations(row["expected"], row["text"]), None, None, every):
            decision = standardize(answer, row["text"])
            found.tried += 1
            if isinstance(decision, Settled) and not is_right(decision.value.as_dict(), row, judge):
                found.passed += 1
                found.kinds[kind] += 1
                found.rows.append({"id": row["id"], "kind": kind, "got": decision.value.as_dict()})
    return found


def is_right(got: Answer, row: Row, judge: Any) -> bool:
    """Does an answer say what the label, or one it accepts, says, by the judge's loosest measure."""
    options = [option for option in (row["expected"], *row.get("accept", ())) if option]
    return any(all(judge.same("canon", name, option.get(name), got[name]) for name in FIELDS) for option in options)


# -- as typed --------------------------------------------------------------------------------------------------------


def verbatim(label: Answer, text: str, judge: Any) -> Answer:
    """Return the label with each value replaced by the words of the text that carry it, where they can be found."""
    cleaned = clean(text)
    return {name: _typed(name, label.get(name), cleaned, judge) for name in FIELDS}


def _typed(name: str, value: str | None, text: str, judge: Any) -> str | None:
    if value is None:
        return None
    if name == "estado":
        named = re.findall(rf"(?<!\w){value}(?!\w)", text, re.IGNORECASE)
        return named[-1] if named else value
    parts = value.split(", ") if name == "complemento" else [value]
    return ", ".join(_span(part, text, judge, field=name) or part for part in parts)


def _span(value: str, text: str, judge: Any, *, field: str) -> str | None:
    """Return the longest words of the text that spell the value: the city's last ones, else the first."""
    tokens = [(found.group(), found.start(), found.end()) for found in _WORD.finditer(text)]
    wanted = _WORD.findall(re.sub(r"(?<=\d)[.-](?=\d{3}$)", "", judge.fold(value)))
    for words in (wanted, wanted[1:] if field == "rua" else []):  # the type may be the label's own
        ends = [(start, _spelled(words, tokens, start, judge)) for start in range(len(tokens) if words else 0)]
        spans = [(end - start, end if field == "cidade" else -start, start, end) for start, end in ends if end]
        if spans:
            *_, start, end = max(spans)
            return text[tokens[start][1] : tokens[end - 1][2]]
    return None


def _spelled(wanted: list[str], tokens: list[tuple[str, int, int]], start: int, judge: Any) -> int:
    done, at = 0, start
    while done < len(wanted):
        if at >= len(tokens):
            return 0
        typed, word = judge.fold(tokens[at][0]), wanted[done]
        long = judge.GROUND.get(typed, ())
        if typed == word or (typed.isdigit() and word.isdigit() and int(typed) == int(word)):
            done += 1
        elif typed.isdigit() and word.startswith(typed):  # the CEP
            wanted = [*wanted[:done], word[len(typed) :], *wanted[done + 1 :]]
        elif word in long:
            while done < len(wanted) and wanted[done] in long:
                done += 1
        elif at == start or typed not in _NO_WORDS:
            return 0
        at += 1
    return at


# -- mutated ---------------------------------------------------------------------------------------------------------


def mutations(label: Answer, text: str) -> Iterator[tuple[str, Answer]]:
    """Yield every (kind, answer) that a careless model might give instead of `label`."""
    seen = {tuple(label.get(name) for name in FIELDS)}
    base: Answer = {name: label.get(name) for name in FIELDS}
    for kind, answer in (*_swapped(base), *_shifted(base), *_dropped(base), *_swallowed(base, text)):
        identity = tuple(answer[name] for name in FIELDS)
        if identity not in seen:
            seen.add(identity)
            yield kind, answer


def _swapped(label: Answer) -> Iterator[tuple[str, Answer]]:
    for one, other in combinations(FIELDS, 2):
        yield f"swap {one} {other}", {**label, one: label[other], other: label[one]}


def _shifted(label: Answer) -> Iterator[tuple[str, Answer]]:
    values = [label[name] for name in FIELDS]
    for at in range(len(FIELDS)):
        left = [*values[:at], *values[at + 1 :], None]
        right = [*values[:at], None, *values[at:-1]]
        yield f"shift {FIELDS[at]} left", dict(zip(FIELDS, left, strict=True))
        yield f"shift {FIELDS[at]} right", dict(zip(FIELDS, right, strict=True))
        if at + 1 < len(FIELDS):
            one, other = FIELDS[at], FIELDS[at + 1]
            yield f"shift {one} into {other}", {**label, one: None, other: label[one]}
            yield f"shift {other} into {one}", {**label, one: label[other], other: None}


def _dropped(label: Answer) -> Iterator[tuple[str, Answer]]:
    for name in FIELDS:
        value = label[name]
        if value is None:
            continue
        yield f"drop {name}", {**label, name: None}
        words = value.split()
        for at in range(len(words) if len(words) > 1 else 0):
            yield f"drop a word of {name}", {**label, name: " ".join(words[:at] + words[at + 1 :])}
        if ", " in value:
            parts = value.split(", ")
            for at in range(len(parts)):
                yield f"drop a part of {name}", {**label, name: ", ".join(parts[:at] + parts[at + 1 :])}


def _swallowed(label: Answer, text: str) -> Iterator[tuple[str, Answer]]:
    """A field takes a neighbour's words, which the neighbour keeps or not, or words beside it in the text."""
    for one in FIELDS:
        for other in FIELDS:
            taken, value = label[other], label[one]
            if one == other or taken is None or value is None:
                continue
            for joined in (f"{value} {taken}", f"{taken} {value}"):
                yield f"{one} swallows {other}", {**label, one: joined, other: None}
                yield f"{one} repeats {other}", {**label, one: joined}
            first, _, rest = taken.partition(" ")
            if rest:
                yield f"{one} takes a word of {other}", {**label, one: f"{value} {first}", other: rest}
    yield from _beside(label, clean(text))


def _beside(label: Answer, text: str) -> Iterator[tuple[str, Answer]]:
    tokens = [(found.group(), found.start(), found.end()) for found in _WORD.finditer(text)]
    lowered = [word.casefold() for word, _, _ in tokens]
    for name in FIELDS:
        words = [word.casefold() for word in _WORD.findall(label[name] or "")]
        if not words or words[-1] not in lowered:
            continue
        at = lowered.index(words[-1])
        for more in (1, 2):
            extra = " ".join(word for word, _, _ in tokens[at + 1 : at + 1 + more])
            if extra:
                yield f"{name} takes what follows", {**label, name: f"{label[name]} {extra}"}


# -- redacted --------------------------------------------------------------------------------------------------------


def sayable(rows: Iterable[Row], judge: Any) -> Passed:
    """Answer each row as typed, but in words and placeholders that were sent; `passed` of those stored if all were."""
    found = Passed()
    for row in rows:
        answer = verbatim(row["expected"], row["text"], judge) if row["expected"] else {}
        if not answer or not _is_stored(answer, row, judge):
            continue
        found.tried += 1
        record = Record.of(row["text"])
        said = {name: _said(value, record) for name, value in answer.items()} | {"estado": answer["estado"]}
        said |= {"cidade": CITY} if CITY in record.text else {}
        if _is_stored(record.restored(said) or {}, row, judge):
            found.passed += 1
        else:
            found.rows.append({"id": row["id"], "sent": record.text})
    return found


def _is_stored(answer: Mapping[str, str | None], row: Row, judge: Any) -> bool:
    decision = standardize(answer, row["text"])
    return isinstance(decision, Settled) and is_right(decision.value.as_dict(), row, judge)


def _said(value: str | None, record: Record) -> str | None:
    """Return a value in words and placeholders that were sent, None if it cannot be said in them."""
    parts = [] if value is None else value.split(", ")
    for name, kept in sorted(record.kept, key=lambda pair: -len(pair[1])):
        whole = re.compile(rf"(?<!\w){re.escape(kept)}(?!\w)")
        parts = [part if part in record.text else whole.sub(name, part) for part in parts]
    return ", ".join(part for part in parts if part in record.text) or None
