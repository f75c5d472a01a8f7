"""What becomes of a street without a type: the deployed system's "Rua", another one, or a person's question."""

import asyncio

import pytest

from normalizer.domain.appointment import Appointment, Kind, Normalized, Review
from normalizer.domain.decision import Reason
from normalizer.worker.pipeline import Finished, Pipeline

UNTYPED = "Beltrano de Tal, 12, Centro, Ubá - MG"


async def outcome(text, **options):
    pipeline = Pipeline(cache=None, coalescer=None, kinds=frozenset({Kind.ADDRESS}), **options)
    deadline = asyncio.get_running_loop().time() + 60
    run = pipeline.run([Appointment("a1", {"endereco_completo": text})], deadline=deadline)
    (finished,) = [item async for progress in run for item in progress]
    assert isinstance(finished, Finished)
    return finished.outcomes[Kind.ADDRESS]


@pytest.mark.parametrize(("options", "rua"), [({}, "Rua"), ({"street_type": "Logradouro"}, "Logradouro")])
async def test_the_type_that_is_not_typed_is_put_before_the_name_and_marked(options, rua):
    found = await outcome(UNTYPED, **options)
    assert isinstance(found, Normalized)
    assert (found.value.rua, found.inferred) == (f"{rua} Beltrano de Tal", ("tipo",))


async def test_without_a_default_type_a_person_is_asked():
    found = await outcome(UNTYPED, street_type="")
    assert isinstance(found, Review)
    assert found.reason is Reason.STREET_UNKNOWN


async def test_a_typed_street_has_nothing_to_do_with_it():
    found = await outcome("Rua Modelo, 12, Centro, Ubá - MG", street_type="")
    assert isinstance(found, Normalized)
    assert found.inferred == ()
