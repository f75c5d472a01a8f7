"""The passes that mark what single tokens show, before any reading is tried. What stays FREE the readings explain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from normalizer.domain.address import labels, remarks, shapes
from normalizer.domain.address.evidence import Evidence
from normalizer.domain.address.sectors import mark_prefixes
from normalizer.domain.address.units import mark_units

if TYPE_CHECKING:
    from collections.abc import Callable

    from normalizer.domain.address.tokens import Tokens

Marking: TypeAlias = "Callable[[Evidence], None]"

# In this order: a token keeps its first mark, so what must not be read as anything else comes first.
PASSES: Final[tuple[Marking, ...]] = (
    shapes.find_slot,  # marks nothing: those behind it ask where the district stands
    remarks.mark_orders,  # nothing in an order is a field, whatever it looks like
    remarks.mark_repeats,  # before labels: "Bairro Centro, Bairro Centro" is one district
    shapes.mark_brackets,  # "BRASILIA (GAMA) - DF": before what looks for the city
    labels.mark_labels,  # the values that labels announce are read by what the label says
    labels.mark_empty_slots,  # "COMPL: NÃO TEM" needs its label
    labels.mark_postcodes,  # "CEP:" is a label; a CEP is no phone and no house number
    labels.mark_no_number,  # "S/N"
    shapes.mark_trailing_type,  # "121 RUA.", "SN RUA.": behind the number, or behind that there is none
    shapes.mark_ranges,  # before units: "lado" is one of them
    shapes.mark_counted_registries,
    shapes.mark_corners,  # before fields and references, which would drop what is behind the corner
    remarks.mark_fields,  # whole fields that say nothing, a person, a note; "S/N" and CEPs are none of them
    remarks.mark_capital,  # "São Paulo capital"
    remarks.mark_lead,  # "Mora na Rua …": behind what was dropped at the beginning
    remarks.mark_references,  # to the end of their field: last, so that they swallow nothing known
    mark_prefixes,  # before units: the Q of "Q SHIS" is no quadra
    mark_units,  # what stands in a remark is no complement
    shapes.mark_second_numbers,  # "lotes 5 e 6" are units
)


def gather(tokens: Tokens) -> Evidence:
    """Return the evidence of `tokens`, all passes run."""
    evidence = Evidence(tokens, bytearray(tokens.size))
    for mark in PASSES:
        mark(evidence)
    return evidence
