"""What a person types as a correction is checked as far as a fact can be checked."""

import pytest

from normalizer.errors import InvalidInput
from normalizer.operations.corrections import address_of

TYPED = {"rua": "Rua das Flores", "cidade": "Bauru", "estado": "SP"}


@pytest.mark.parametrize("number", ["9-55", "12", "1-2", None])
def test_a_number_is_kept_as_typed(number):
    assert address_of({**TYPED, "numero": number}).numero == number


@pytest.mark.parametrize("number", ["9-", "-55", "9-55-1", "12B", "9/55", "S/N", "9 - 55"])
def test_what_is_no_number_is_refused(number):
    with pytest.raises(InvalidInput, match="9-55"):
        address_of({**TYPED, "numero": number})
