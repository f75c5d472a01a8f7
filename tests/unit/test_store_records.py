"""What is written on an appointment, without a server."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.domain.address import Address
from normalizer.domain.appointment import Appointment, Kind, Normalized, Origin, Rejected, Review, Status
from normalizer.domain.decision import Reason
from normalizer.domain.document import Document
from normalizer.store.connection import batched, by_id, by_ids
from normalizer.store.records import (
    ALL_SOURCES,
    Result,
    appointment_of,
    change_of,
    failure_of,
    keyed_hash,
    pending_of,
    status_of,
    unchanged,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECRET = b"s" * 32
GOOD = {
    Kind.ADDRESS: Normalized(Address(rua="Rua A", cidade="Campinas", estado="SP"), Origin.RULES),
    Kind.DOCUMENT: Normalized(Document(cpf="11144477735"), Origin.RULES),
}
REVIEW = Review(Reason.CITY_UNKNOWN, Origin.RULES)
REJECTED = Rejected("derrubou o processo")

outcome_maps = st.fixed_dictionaries(
    {},
    optional={kind: st.sampled_from([GOOD[kind], REVIEW, REJECTED]) for kind in Kind},
)


def result(outcomes, fence=5, tries=1, **sources):
    return Result(Appointment("a", {**dict.fromkeys(ALL_SOURCES), **sources}), outcomes, fence=fence, tries=tries)


@pytest.mark.parametrize(
    ("address", "document", "status"),
    [
        (GOOD[Kind.ADDRESS], GOOD[Kind.DOCUMENT], Status.DONE),
        (REVIEW, GOOD[Kind.DOCUMENT], Status.REVIEW),
        (GOOD[Kind.ADDRESS], REVIEW, Status.REVIEW),
        (REVIEW, REJECTED, Status.FAILED),
        (REJECTED, GOOD[Kind.DOCUMENT], Status.FAILED),
    ],
)
def test_status(address, document, status):
    assert status_of({Kind.ADDRESS: address, Kind.DOCUMENT: document}) is status


def test_one_enabled_kind_decides_alone():
    assert status_of({Kind.DOCUMENT: GOOD[Kind.DOCUMENT]}) is Status.DONE
    assert status_of({}) is Status.DONE


@given(outcome_maps)
def test_a_write_names_only_its_kinds_and_its_condition_only_their_texts(outcomes):
    row = result(outcomes)
    written, condition = change_of(row, NOW)["$set"], unchanged(row)
    for kind, field in ((Kind.ADDRESS, "endereco_normalizado"), (Kind.DOCUMENT, "documento_normalizado")):
        touched = kind in outcomes and not isinstance(outcomes[kind], Rejected)
        assert (field in written) is touched
        assert (f"normalizacao.{kind}" in written) is touched
    assert ("endereco_completo" in condition) is (Kind.ADDRESS in outcomes)
    assert ("documento_completo" in condition) is (Kind.DOCUMENT in outcomes)
    assert condition["normalizacao.fence"] == {"$not": {"$gt": 5}}
    assert written["normalizacao.status"] == status_of(outcomes)


@given(outcome_maps)
def test_mirrors_are_never_null(outcomes):
    written = change_of(result(outcomes), NOW)["$set"]
    assert all(written[name] is not None for name in ("cpf", "rg") if name in written)


def test_a_source_that_looks_like_an_operator_is_compared_as_a_value():
    condition = unchanged(result(GOOD, cep={"$gt": ""}))
    assert condition["cep"] == {"$eq": {"$gt": ""}}


def test_a_failure_touches_no_result():
    assert not {name for name in failure_of("x", 1, NOW)["$set"] if "normalizado" in name}


def test_a_record_without_anything_is_an_appointment():
    appointment = appointment_of({"_id": 7, "normalizacao": "not ours"})
    assert (appointment.id, appointment.status) == ("7", None)
    assert set(appointment.sources) == set(ALL_SOURCES)


sources = st.fixed_dictionaries({}, optional={name: st.none() | st.text("aé1", max_size=2) for name in ALL_SOURCES})


@given(sources, sources, st.integers(0, 3), st.integers(0, 3))
def test_a_fingerprint_is_the_content_and_the_revision(one, other, revision, later):
    def fingerprint(fields, number, secret=SECRET):
        return pending_of({"_id": "a", **fields, "normalizacao": {"revisao": number}}, secret=secret).fingerprint

    full = [{name: fields.get(name) for name in ALL_SOURCES} for fields in (one, other)]
    same = (full[0], revision) == (full[1], later)
    assert (fingerprint(one, revision) == fingerprint(other, later)) is same
    assert fingerprint(one, revision) != fingerprint(one, revision, b"another secret")


@given(st.dictionaries(st.text(), st.text() | st.integers(-(2**63), 2**63 - 1) | st.datetimes() | st.none()))
def test_a_hash_ignores_the_order_of_fields(fields):
    assert keyed_hash(fields, secret=SECRET) == keyed_hash(dict(reversed(fields.items())), secret=SECRET)


@given(st.lists(st.integers()), st.integers(1, 10))
def test_batches_keep_everything_in_order(items, size):
    batches = list(batched(items, size))
    assert [item for batch in batches for item in batch] == items
    assert all(0 < len(batch) <= size for batch in batches)


def test_an_id_that_can_be_two_things_is_asked_for_as_both():
    assert by_id("abc") == {"_id": "abc"}
    assert len(by_id("0" * 24)["_id"]["$in"]) == 2
    assert len(by_ids(["abc", "0" * 24])["_id"]["$in"]) == 3
