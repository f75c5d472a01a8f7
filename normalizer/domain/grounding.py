"""Is every value of an address carried by the text it was read from? The check lives beside the rules it shares."""

from __future__ import annotations

from normalizer.domain.address.grounding import Problem, Violation, violations

__all__ = ["Problem", "Violation", "violations"]
