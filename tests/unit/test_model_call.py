"""What one record of an answer is worth, and whether it is asked again."""

import pytest

from normalizer.domain.decision import Reason, Settled, Undecided
from normalizer.errors import BatchRejected
from normalizer.llm.model_call import Again, _taken_apart, evaluate_record, next_call_size
from normalizer.llm.packing import Cost
from normalizer.llm.prompt import FIELDS, Record
from normalizer.llm.single_flight import PendingText

TEXT = "R. das Flores, 12, Centro, Itu, SP, 13300-000"


def segments(*values):
    padded = list(values) + [None] * (len(FIELDS) - len(values))
    return dict(zip(FIELDS, padded, strict=True))


def test_a_grounded_answer_is_a_decision_that_looks_like_a_rules():
    verdict = evaluate_record(TEXT, segments("R. das Flores", "12", None, "Centro", "Itu", "SP", "13300-000"), asked=25)

    assert isinstance(verdict, Settled)
    assert verdict.value.rua == "Rua das Flores"
    assert verdict.value.cep == "13300-000"


def test_no_answer_is_asked_again():
    assert evaluate_record(TEXT, None, asked=1) == Again(Reason.MODEL_NO_ANSWER)


def test_an_honest_nothing_is_final():
    assert evaluate_record("ligar antes", segments(), asked=25) == Undecided(Reason.MODEL_NO_ANSWER)


@pytest.mark.parametrize(("asked", "kind"), [(1, Undecided), (2, Again)])
def test_an_absent_city_ends_the_asking_only_where_no_neighbour_can_have_confused_the_model(asked, kind):
    said = segments("Rua do Comércio", "17", "fundos")

    assert isinstance(evaluate_record("Rua do Comércio 17 fundos", said, asked=asked), kind)


@pytest.mark.parametrize(
    ("shifted", "alone"),
    [
        (segments("R. das Flores", "12", "Centro", "Itu", "SP", "13300-000", None), True),
        (segments("R. das Flores", "12", None, "Itu", "SP", None, "13300-000"), True),
        (segments("R. das Flores", "12", None, "Centro", "Itu", "13300-000", None), True),
        (segments("R. das Flores", "12", None, "Centro", "Itu", "SP", "12"), True),
        (segments("R. das Flores", "13", None, "Centro", "Itu", "SP", "13300-000"), False),
        (segments("R. das Flores", "13", None, "Centro", "Itu", "Rio Grande do Sul", None), False),
    ],
)
def test_a_shifted_answer_is_asked_again_alone(shifted, alone):
    verdict = evaluate_record(TEXT, shifted, asked=25)

    assert isinstance(verdict, Again)
    assert verdict.alone is alone


@pytest.mark.parametrize(
    "wrong",
    [
        segments("Rua Inventada", "99", None, "Centro", "Itu", "SP", None),
        segments("R. das Flores", "12", None, "Centro", "Recife", "PE", None),
        segments("R. das Flores", "13", None, "Centro", "Itu", "SP", None),
    ],
)
def test_a_value_the_text_does_not_carry_is_asked_again(wrong):
    assert isinstance(evaluate_record(TEXT, wrong, asked=25), Again)


def test_calls_shrink_until_a_record_stands_alone():
    sizes, max_call_size = [], 50
    while max_call_size is not None:
        sizes.append(max_call_size)
        max_call_size = next_call_size(max_call_size)

    assert sizes == [50, 8, 2, 1]


def test_a_refused_batch_is_bisected_down_to_one():
    texts = [PendingText(str(number), TEXT, Record(TEXT), Cost(1, 1), 0, 0, 0) for number in range(50)]
    sizes = [len(texts)]
    while (refused := _taken_apart(texts, BatchRejected("no"))).again:
        sizes.append(min(entry.cost.max_call_size for entry in refused.again))
        texts = refused.again[: sizes[-1]]

    assert sizes == [50, 25, 12, 6, 3, 1]
    assert refused.decided == [(texts[0], Undecided(Reason.MODEL_REFUSED))]
