"""The rows that a prompt is measured on: of every kind, refused by the rules, sayable in what leaves the machine."""

from collections import Counter

from benchmarks.prompt import KINDS, residue
from benchmarks.quality import sayable
from normalizer.domain.address import parse_address
from normalizer.domain.decision import Settled
from normalizer.llm.prompt import Record


def test_the_rules_leave_rows_of_every_kind_that_a_model_could_answer():
    rows = residue(3)

    assert Counter(row["tags"][0] for row in rows) == {f"class:{kind.__name__.strip('_')}": 3 for kind in KINDS}
    assert not [row["text"] for row in rows if isinstance(parse_address(row["text"]), Settled)]
    assert len({Record.of(row["text"]).text for row in rows}) > len(KINDS)
    assert sayable(rows).share == 1.0
