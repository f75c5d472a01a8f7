"""What is written on an appointment, without a server."""

import uuid
from datetime import UTC, datetime

import pytest
from bson import Binary, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from normalizer.domain.address import Address
from normalizer.domain.appointment import (
    Absent,
    Appointment,
    Kind,
    Normalized,
    Origin,
    Review,
    Status,
    Tracking,
    ending_of,
)
from normalizer.domain.decision import Reason
from normalizer.domain.document import Document
from normalizer.store.connection import batched
from normalizer.store.records import (
    ALL_SOURCES,
    Result,
    appointment_of,
    change_of,
    failure_of,
    forms_of,
    identity_of,
    keyed_hash,
    named,
    pending_of,
    status_of,
    unchanged,
    value_hash,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECRET = b"s" * 32
GOOD = {
    Kind.ADDRESS: Normalized(Address(rua="Rua A", cidade="Campinas", estado="SP"), Origin.RULES),
    Kind.DOCUMENT: Normalized(Document(cpf="11144477735"), Origin.RULES),
}
REVIEW = Review(Reason.CITY_UNKNOWN, Origin.RULES)
ABSENT = Absent(Reason.ADDRESS_MISSING)
OURS = {"origem": "regras", "gravado": value_hash({"rua": "Rua A", "cidade": "Campinas"}, secret=SECRET)}

outcome_maps = st.fixed_dictionaries(
    {},
    optional={kind: st.sampled_from([GOOD[kind], REVIEW, ABSENT]) for kind in Kind},
)


def result(outcomes, fence=5, tries=1, **sources):
    return Result(Appointment("a", {**dict.fromkeys(ALL_SOURCES), **sources}), outcomes, fence=fence, tries=tries)


@pytest.mark.parametrize(
    ("address", "document", "status"),
    [
        (GOOD[Kind.ADDRESS], GOOD[Kind.DOCUMENT], (Status.DONE, Tracking.COMPLETED, ())),
        (ABSENT, GOOD[Kind.DOCUMENT], (Status.DONE, Tracking.COMPLETED, ())),
        (ABSENT, ABSENT, (Status.DONE, Tracking.SKIPPED, ())),
        (REVIEW, GOOD[Kind.DOCUMENT], (Status.REVIEW, Tracking.FAILED, ("endereço: cidade não identificada",))),
        (ABSENT, REVIEW, (Status.REVIEW, Tracking.FAILED, ("documento: cidade não identificada",))),
    ],
)
def test_both_accounts_of_an_ending(address, document, status):
    ending = ending_of({Kind.ADDRESS: address, Kind.DOCUMENT: document})
    assert (ending.status, ending.tracking, ending.errors) == status


def test_one_enabled_kind_decides_alone_and_a_result_that_is_there_counts():
    assert ending_of({Kind.DOCUMENT: GOOD[Kind.DOCUMENT]}).tracking is Tracking.COMPLETED
    assert ending_of({}).tracking is Tracking.SKIPPED
    assert ending_of({}, [Kind.ADDRESS]).tracking is Tracking.COMPLETED
    assert ending_of({Kind.DOCUMENT: ABSENT}, [Kind.ADDRESS]).tracking is Tracking.COMPLETED


A_UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"_id": ObjectId("0" * 24), "id": A_UUID}, A_UUID),
        ({"_id": Binary.from_uuid(uuid.UUID(A_UUID))}, A_UUID),
        ({"_id": 7, "id": None}, "7"),
        ({"_id": "x", "id": "   "}, "x"),
        ({"_id": "x", "id": ["a"]}, "x"),
        ({"_id": "x", "id": True}, "x"),
        ({"_id": "x", "id": "a" * 201}, "x"),
        ({"_id": {"a": 1}}, "{'a': 1}"),
    ],
)
def test_the_one_identity(record, name):
    assert identity_of(record) == name
    for stored in (record.get("id"), record["_id"]):
        if str(stored) == name or isinstance(stored, Binary):
            assert stored in forms_of(name) or isinstance(stored, dict)


WHOLE = {"rua": "Rua A", "cidade": "Campinas"}


@pytest.mark.parametrize(
    ("stored", "kept"),
    [
        ({}, set()),
        ({"endereco_normalizado": WHOLE}, {Kind.ADDRESS}),
        ({"endereco_normalizado": {"rua": None}}, set()),
        ({"endereco_normalizado": WHOLE, "normalizacao": {"endereco": {"origem": "regras"}}}, set()),
        ({"endereco_normalizado": WHOLE, "normalizacao": {"endereco": OURS}}, set()),
        ({"endereco_normalizado": {**WHOLE, "cep": None}, "normalizacao": {"endereco": OURS}}, set()),
        ({"endereco_normalizado": {**WHOLE, "rua": "Rua B"}, "normalizacao": {"endereco": OURS}}, {Kind.ADDRESS}),
        ({"endereco_normalizado": WHOLE, "normalizacao": {"refazer": ["endereco"]}}, set()),
        ({"endereco_normalizado": WHOLE, "normalizacao": {"refazer": ["documento"]}}, {Kind.ADDRESS}),
    ],
)
def test_a_result_that_is_not_ours_is_kept(stored, kept):
    assert appointment_of({"_id": 1, **stored}, secret=SECRET).kept == kept


@pytest.mark.parametrize(
    ("ours", "theirs", "status"),
    [
        ("revisar", "failed", Status.REVIEW),
        ("falhou", "failed", Status.FAILED),
        ("revisar", "pending", Status.PENDING),  # their written recipe for trying again
        ("pendente", "completed", Status.DONE),  # a replica of the old worker
        ("pendente", "processing", Status.PENDING),
        (None, "skipped", Status.DONE),
        (None, "failed", Status.FAILED),
        ("concluido", None, Status.DONE),
        ("concluido", "unheard of", Status.DONE),
        (None, None, None),
    ],
)
def test_where_the_accounts_differ_theirs_is_the_newer_one(ours, theirs, status):
    assert status_of({"normalizacao": {"status": ours}, "normalization_status": theirs}) is status


@pytest.mark.parametrize("nothing", [None, "", "  ", float("nan"), "NaN", "None", True, [], {}, b"x"])
def test_what_is_no_text_hides_no_other_source(nothing):
    address = {"endereco_completo": nothing, "endereco_coleta": "rua a, 1"}
    document = {"documento_completo": nothing, "cpf": 11144477735.0}
    appointment = Appointment("a", {**address, **document})
    assert appointment.text(Kind.ADDRESS) == "rua a, 1"
    assert appointment.text(Kind.DOCUMENT) == "CPF: 11144477735"


@given(outcome_maps)
def test_a_write_names_only_its_kinds_and_its_condition_only_their_texts(outcomes):
    row = result(outcomes)
    written, condition = change_of(row, NOW, secret=SECRET)["$set"], unchanged(row)
    for kind, field in ((Kind.ADDRESS, "endereco_normalizado"), (Kind.DOCUMENT, "documento_normalizado")):
        touched = kind in outcomes
        assert (field in written) is touched
        assert (f"normalizacao.{kind}" in written) is touched
    assert ("endereco_completo" in condition) is (Kind.ADDRESS in outcomes)
    assert ("documento_completo" in condition) is (Kind.DOCUMENT in outcomes)
    assert condition["normalizacao.fence"] == {"$not": {"$gt": 5}}
    assert written["normalizacao.status"] == ending_of(outcomes).status


@given(outcome_maps)
def test_mirrors_are_never_null(outcomes):
    written = change_of(result(outcomes), NOW, secret=SECRET)["$set"]
    assert all(written[name] is not None for name in ("cpf", "rg") if name in written)


def test_a_source_that_looks_like_an_operator_is_compared_as_a_value():
    condition = unchanged(result(GOOD, cep={"$gt": ""}))
    assert condition["cep"] == {"$eq": {"$gt": ""}}


def test_a_failure_touches_no_result():
    assert not {name for name in failure_of("x", 1, NOW)["$set"] if "normalizado" in name}


def test_a_record_without_anything_is_an_appointment():
    appointment = appointment_of({"_id": 7, "normalizacao": "not ours"}, secret=SECRET)
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
    assert forms_of("abc") == ["abc"]
    assert forms_of("0" * 24) == ["0" * 24, ObjectId("0" * 24)]
    assert forms_of("42") == ["42", 42]
    assert forms_of("042") == ["042"]
    assert [len(named(["abc", "0" * 24], field)[field]["$in"]) for field in ("id", "_id")] == [3, 3]


@pytest.mark.parametrize("inferred", [(), ("tipo",), ("tipo", "estado")])
def test_what_an_address_has_and_its_text_does_not_say_is_stored_marked(inferred):
    address = Normalized(GOOD[Kind.ADDRESS].value, Origin.RULES, inferred=inferred)
    change = change_of(result({Kind.ADDRESS: address}), NOW, secret=SECRET)
    assert change["$set"]["normalizacao.endereco"].get("deduzido", []) == list(inferred)
