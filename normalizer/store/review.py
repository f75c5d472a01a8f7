"""`Questions`: what waits for a person, grouped by what is asked, and what persons decided.

A row in review carries the keys of its questions (`records.questions`); an index finds all rows of one. A decision is
noted before its rows are written, under the next number of its question: of two who decide at once the second finds the
number taken. What each row held before is kept for a day, as an import's is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, TypeAlias

from pymongo import UpdateOne
from pymongo.errors import DuplicateKeyError

from normalizer.domain.address import Address
from normalizer.domain.address.explain import ClinicWord
from normalizer.domain.appointment import Kind, Status
from normalizer.domain.document import Document
from normalizer.store.connection import (
    BULK,
    PATIENCE_MS,
    Database,
    Record,
    chunks_of,
    grouped,
    stored_names,
    translating,
    utc,
)
from normalizer.store.imports import Imports
from normalizer.store.outbox import marked
from normalizer.store.records import LACK, QUESTION, RESULT_FIELD, about, named, questions
from normalizer.store.stored_appointment import StoredAppointment, as_read, correction_of, reopening_of
from normalizer.store.undo import WINDOW, expiry, insert_images
from normalizer.store.writes import in_bulk

_KIND: Final = {LACK: Kind.ADDRESS, **{letter: kind for kind, letter in QUESTION.items()}}
#: A decision to decide later: it writes on no row, and for a day the question stands behind all others.
POSTPONED: Final = "adiar"


@dataclass(frozen=True, slots=True)
class Example:
    """One open text of a question, with what tells of its patient. Holds patients' data."""

    id: str
    text: str
    motive: str
    understood: Mapping[str, str]
    unit: str
    patient: str
    contact: frozenset[str]
    natural_key: str
    date: datetime | None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of `count` open appointments, of which one is the example."""

    key: str
    count: int
    example: Example

    @property
    def kind(self) -> Kind:
        """Of the texts."""
        return kind_of(self.key)

    @property
    def is_lack(self) -> bool:
        """Whether it asks what several texts lack, and not what one text means."""
        return is_lack(self.key)


@dataclass(frozen=True, slots=True)
class Known:
    """An answer that settles a lack and not yet the text: what is known of it from now on."""

    fields: Mapping[str, str]


#: What a person said of a text; None says that there is nothing.
Answer: TypeAlias = Address | Document | Known | None
_Answers: TypeAlias = Callable[[Sequence[str]], Awaitable[Mapping[str, Answer]]]


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision on a question. `content` is sealed: the canonical text and what was decided. `lesson`: what it says
    of a district's short name, if anything; `Questions.lessons` alone reads it back.

    Attributes:
        count: appointments it wrote on.
        left: of those, how many still wait for something else.
    """

    key: Annotated[str, "chave"]
    number: Annotated[int, "numero"]
    action: Annotated[str, "acao"]
    scope: Annotated[str, "escopo"]
    motive: Annotated[str, "motivo"]
    at: Annotated[datetime, "em"]
    state: Annotated[str, "estado"] = "aplicando"
    count: Annotated[int, "total"] = 0
    left: Annotated[int, "restam"] = 0
    content: Annotated[bytes, "conteudo"] = b""
    lesson: ClinicWord | None = None

    @property
    def id(self) -> str:
        """Its name everywhere."""
        return f"{self.key}-{self.number}"

    @property
    def kind(self) -> Kind:
        """Of the texts it decided on."""
        return kind_of(self.key)


_STORED: Final = stored_names(Decision)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What a concluded appointment holds that may be of the same patient. Holds patients' data."""

    patient: str
    contact: frozenset[str]
    address: Mapping[str, str | None] | None
    document: Mapping[str, str | None] | None


def kind_of(key: str) -> Kind:
    """The kind of text that a question is asked of; of an address where the key is none of ours."""
    return _KIND.get(key[:1], Kind.ADDRESS)


def is_lack(key: str) -> bool:
    """Whether the key is of what several texts lack."""
    return key.startswith(LACK)


_OPEN: Final = {"normalization_status": "failed", "normalizacao.status": Status.REVIEW.value}
_STAMPED: Final = 500  # rows of earlier versions that one look gives their keys
#: The concluded rows that are looked through for what they tell of a unit or a patient.
_LATELY: Final[list[dict[str, Any]]] = [
    {"$match": {"normalization_status": "completed"}},
    {"$sort": {"updated_at": -1}},
    {"$limit": 3_000},
]
_MOST_TOLD: Final = 3
_PUT_OFF: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which questions; None asks for all."""

    kind: Kind | None = None
    motive: str | None = None
    import_id: str | None = None
    unit: str | None = None

    def query(self) -> dict[str, Any]:
        """As MongoDB takes it."""
        narrowed = {"normalizacao.import_id": self.import_id, "nome_unidade": self.unit}
        return {**_OPEN, **{name: value for name, value in narrowed.items() if value is not None}}


_Seen: TypeAlias = tuple[StoredAppointment, Record]


@translating
class Questions:
    """Every method may raise `StoreUnavailable`. `AppointmentStore.questions` is one."""

    def __init__(self, database: Database, imports: Imports, *, announces: bool = False) -> None:
        self._appointments, self._images = database.durably, database.images
        self._decisions = database.lasting("normalizer_decisions")
        self._imports, self._announces = imports, announces
        self._secret, self._clock = database.secret, database.clock

    async def open(
        self,
        chosen: Chosen,
        *,
        after: tuple[int, str] | None = None,
        limit: int = 20,
        but: Collection[str] = (),
        only: Collection[str] | None = None,
    ) -> list[Question]:
        """The questions by how many appointments ask them, the most first; `after`: count and key of the last seen.

        Those with the keys in `but` are left out; with `only`, all others are; what only one text lacks always is.
        """
        among = {"$nin": list(but)} if only is None else {"$in": list(only)}
        groups = await self._grouped(chosen, among, after, limit + 1)
        if any(group["_id"] is None for group in groups) and await self._stamp():
            groups = await self._grouped(chosen, among, after, limit + 1)
        asked = [group for group in groups if group["_id"] is not None][:limit]
        wanted = {"_id": {"$in": [group["um"] for group in asked]}}
        records = {record["_id"]: record async for record in self._appointments.find(wanted)}
        return [
            Question(group["_id"], group["n"], _example(records[group["um"]], kind_of(group["_id"])))
            for group in asked
            if group["um"] in records
        ]

    async def count(self, chosen: Chosen) -> int:
        """How many appointments ask something."""
        return int(await self._appointments.count_documents(chosen.query(), maxTimeMS=PATIENCE_MS))

    async def one(self, key: str) -> Question | None:
        """One question; None when nobody asks it any more."""
        query = _asking(key)
        count = await self._appointments.count_documents(query, maxTimeMS=PATIENCE_MS)
        record = await self._appointments.find_one(query) if count else None
        return Question(key, count, _example(record, kind_of(key))) if record is not None else None

    async def cities_of(self, units: Collection[str]) -> dict[str, tuple[str, str]]:
        """The city and state that most of a unit's recent addresses lie in, by unit."""
        place = {"unidade": "$nome_unidade", "cidade": "$endereco_normalizado.cidade"}
        place["estado"] = "$endereco_normalizado.estado"
        steps = [
            *_LATELY,
            {"$match": {"nome_unidade": {"$in": list(units)}, "endereco_normalizado.estado": {"$type": "string"}}},
            {"$group": {"_id": place, "n": {"$sum": 1}}},
            {"$sort": {"n": 1}},
        ]
        found = [row["_id"] async for row in grouped(self._appointments, steps)]
        return {str(one["unidade"]): (str(one["cidade"]), str(one["estado"])) for one in found}

    async def elsewhere(self, patients: Collection[str]) -> list[Elsewhere]:
        """Recent results of appointments whose patients are called so, the last ones first."""
        steps = [*_LATELY, {"$match": {"nome_paciente": {"$in": list(patients)}}}, {"$limit": 200}]
        fields = (RESULT_FIELD[Kind.ADDRESS], RESULT_FIELD[Kind.DOCUMENT])
        return [
            Elsewhere(str(record.get("nome_paciente")), _contact(record), *map(record.get, fields))
            async for record in grouped(self._appointments, steps)
        ]

    async def put_off(self) -> list[str]:
        """The keys of what somebody wants to decide later."""
        lately = {"em": {"$gte": self._clock() - _PUT_OFF}, "acao": POSTPONED, "estado": "aplicada"}
        return [record["chave"] async for record in self._decisions.find(lately, {"chave": 1}).limit(BULK)]

    async def _grouped(
        self, chosen: Chosen, among: Mapping[str, Any], after: tuple[int, str] | None, limit: int
    ) -> list[Record]:
        query = chosen.query()
        if chosen.motive is not None:
            query["$or"] = [{f"normalizacao.{kind}.motivo": chosen.motive} for kind in Kind]
        asked = [_keys_of(kind, chosen.motive) for kind in Kind if chosen.kind in {None, kind}]
        steps: list[dict[str, Any]] = [
            {"$match": query},
            {"$project": {"p": {"$concatArrays": asked}}},
            {"$unwind": {"path": "$p", "preserveNullAndEmptyArrays": True}},
            {"$group": {"_id": "$p", "n": {"$sum": 1}, "um": {"$first": "$_id"}}},
            {"$match": {"_id": among, "$nor": [{"_id": {"$regex": f"^{LACK}"}, "n": 1}]}},
            {"$sort": {"n": -1, "_id": 1}},
        ]
        if after is not None:
            later = [{"n": {"$lt": after[0]}}, {"n": after[0], "_id": {"$gt": after[1]}}]
            steps.append({"$match": {"$or": later}})
        return [group async for group in grouped(self._appointments, [*steps, {"$limit": limit}])]

    async def _stamp(self) -> int:
        """Give open rows of earlier versions the keys of their questions, some at a time; how many."""
        secret, stamped = await self._secret.get(), 0
        for kind in Kind:
            mark = f"normalizacao.{kind}"
            old = {f"{mark}.motivo": {"$exists": True}, f"{mark}.perguntas": {"$exists": False}}
            found = self._appointments.find({**_OPEN, **old, RESULT_FIELD[kind]: None}).limit(_STAMPED)
            writes = [_asking_now(StoredAppointment.of(record), kind, secret) async for record in found]
            stamped += (await in_bulk(self._appointments, writes)).modified
        return stamped

    async def last_decisions(self, keys: Collection[str]) -> dict[str, Decision]:
        """The last decision on each of these questions that was ever decided on."""
        cursor = self._decisions.find({"chave": {"$in": list(keys)}}, {"registros": 0}).sort("numero", 1)
        return {record["chave"]: _decision(record) async for record in cursor}

    async def begin(self, decision: Decision) -> bool:
        """Note a decision before its rows are written; False where somebody took its number."""
        record = {name: getattr(decision, field) for field, name in _STORED.items()}
        lesson = {} if decision.lesson is None else {"licao": asdict(decision.lesson)}
        try:
            await self._decisions.insert_one({"_id": decision.id, **record, "registros": [], **lesson})
        except DuplicateKeyError:
            return False
        return True

    async def apply(self, decision: Decision, answers: _Answers, *, only: str | None = None) -> Decision | None:
        """Write what a person said on every row that asks, or on `only` this one; None where none asks any more.

        A row that somebody writes on meanwhile is read again. Safe to repeat.
        """
        query = _asking(decision.key)
        if only is not None:
            query["$or"] = [named([only]), named([only], "_id")]
        while records := await self._appointments.find(query).limit(BULK).to_list(None):
            asking, moved = await self._still_asking(records, decision)
            given = await answers([seen.texts[decision.kind].text for seen, _ in asking])
            if not await self._write(decision, asking, given) + moved:
                break
        ended = await self._decisions.find_one_and_update(
            {"_id": decision.id}, {"$set": {"estado": "aplicada"}}, {"registros": 0}, return_document=True
        )
        if not ended["total"]:
            await self._decisions.delete_one({"_id": decision.id})
        return _decision(ended) if ended["total"] else None

    async def interrupted(self, before: datetime) -> list[Decision]:
        """Decisions begun before then whose process ended before all their rows were written."""
        begun = {"estado": "aplicando", "em": {"$gte": before - WINDOW, "$lt": before}}
        found = self._decisions.find(begun, {"registros": 0}).limit(_MOST_TOLD)
        return [_decision(record) async for record in found]

    async def _still_asking(self, records: Sequence[Record], decision: Decision) -> tuple[list[_Seen], int]:
        """Those whose text is still the one that asked; how many others got the keys of what they ask now."""
        kind, secret = decision.kind, await self._secret.get()
        seen = [(StoredAppointment.of(record), record) for record in records]
        asking = [(one, record) for one, record in seen if decision.key in _asked(one, kind, secret)]
        still = {one.handle for one, _ in asking}
        writes = [_asking_now(one, kind, secret) for one, _ in seen if one.handle not in still]
        return asking, (await in_bulk(self._appointments, writes)).modified

    async def _write(self, decision: Decision, asking: Sequence[_Seen], answers: Mapping[str, Answer]) -> int:
        """How many rows were written; the decision counts them."""
        if not asking:
            return 0
        kind, now, secret = decision.kind, self._clock(), await self._secret.get()
        refused = await insert_images(self._images, [_image(*one, decision, now) for one in asking])
        asking = [one for one in asking if one[0].handle not in refused]
        said = [(one, answers[one[0].texts[kind].text]) for one in asking]
        writes = [self._change(one, answer, decision, now, secret) for one, answer in said]
        written = (await in_bulk(self._appointments, writes)).modified
        names = [seen.id for seen, _ in asking]
        waiting = sum(isinstance(answer, Known) for _, answer in said)
        counted = {"$inc": {"total": written, "restam": waiting}, "$addToSet": {"registros": {"$each": names}}}
        await self._decisions.update_one({"_id": decision.id}, counted)
        await self._imports.recount(seen.import_id for seen, _ in asking)
        return written

    def _change(self, one: _Seen, answer: Answer, decision: Decision, now: datetime, secret: bytes) -> UpdateOne:
        (seen, record), kind = one, decision.kind
        if isinstance(answer, Known):
            change = _informed(record, kind, answer, decision.key, now)
        else:
            change = correction_of(seen, {kind: answer}, now, secret=secret)
        noted = change["$set"][f"normalizacao.{kind}"]
        noted["decisao"] = decision.id
        if decision.scope == "este":
            noted["so_este"] = True
        if self._announces and (told := change["$set"].get("normalizacao.status")):
            change = marked(change, Status(told), now)
        return UpdateOne({**as_read(seen, [kind]), RESULT_FIELD[kind]: None}, change)

    async def decisions(self, limit: int = 20) -> list[Decision]:
        """The last ones, newest first; `limit` 0 gives all."""
        cursor = self._decisions.find({}, {"registros": 0}).sort("em", -1).limit(limit)
        return [_decision(record) async for record in cursor]

    async def learned(self, import_id: str, said: Sequence[tuple[StoredAppointment, ClinicWord]]) -> None:
        """Note what a correction of many says of districts' short names: it counts as decisions until it is undone."""
        secret, texts = await self._secret.get(), defaultdict[ClinicWord, set[str]](set)
        for seen, word in said:
            texts[word].add(_asked(seen, Kind.ADDRESS, secret)[0])
        lessons = [{"palavra": asdict(word), "textos": sorted(keys)} for word, keys in texts.items()]
        await self._imports.note(import_id, lessons=lessons)

    async def lessons(self, least: int) -> list[tuple[ClinicWord, int]]:
        """What decisions on at least so many different texts say alike of a district's short name, and how many do."""
        standing = {"licao.city": {"$exists": True}, "estado": "aplicada", "acao": "decidir"}
        texts = defaultdict[ClinicWord, set[str]](set)
        async for decision in self._decisions.find(standing, {"licao": 1, "chave": 1}):
            texts[ClinicWord(**decision["licao"])].add(decision["chave"])
        for lesson in await self._imports.lessons():
            texts[ClinicWord(**lesson["palavra"])].update(lesson["textos"])
        return [(word, len(keys)) for word, keys in texts.items() if len(keys) >= least]

    async def undo(self, decision_id: str) -> tuple[int, int, list[str]] | None:
        """Ask again: how many rows, how many somebody has written on since and are kept, and the texts.

        None when there is no such decision, or it was undone.
        """
        standing = {"_id": decision_id, "estado": {"$ne": "desfeita"}}
        found = await self._decisions.find_one(standing, {"registros": 0})
        if found is None:
            return None
        kind, restored, kept = kind_of(found["chave"]), 0, 0
        texts: dict[str, None] = {}
        async for chunk in chunks_of(self._images.find({"import_id": decision_id}).sort("revisao", 1)):
            rows = {image["registro"]: image for image in chunk}
            back = await self._reopen(decision_id, kind, rows)
            restored, kept = restored + len(back), kept + len(rows) - len(back)
            texts |= dict.fromkeys(seen.texts[kind].text for seen in back)
            await self._images.delete_many({"_id": {"$in": [image["_id"] for image in chunk]}})
        await self._decisions.update_one({"_id": decision_id}, {"$set": {"estado": "desfeita"}})
        restored += found["total"] if found["acao"] == POSTPONED else 0
        return restored, kept, list(texts)

    async def _reopen(self, decision_id: str, kind: Kind, images: Mapping[Any, Record]) -> list[StoredAppointment]:
        """Put back what the rows held that this decision was the last to write on; those rows."""
        mine = {"_id": {"$in": list(images)}, f"normalizacao.{kind}.decisao": decision_id}
        back = []
        for seen in [StoredAppointment.of(record) async for record in self._appointments.find(mine)]:
            before = {name.replace("/", "."): value for name, value in images[seen.handle]["antes"].items()}
            change = reopening_of(seen, kind, before, self._clock())
            if (await self._appointments.update_one(as_read(seen, [kind]), change)).modified_count:
                back.append(seen)
        await self._imports.recount(seen.import_id for seen in back)
        return back

    async def forget(self, appointment_id: str) -> int:
        """Erase every decision on this appointment's texts, and what it wrote over; how many."""
        ids = [each["_id"] async for each in self._decisions.find({"registros": appointment_id}, {"_id": 1})]
        await self._images.delete_many({"import_id": {"$in": ids}})
        return int((await self._decisions.delete_many({"_id": {"$in": ids}})).deleted_count)


def _asking(key: str) -> dict[str, Any]:
    return {f"normalizacao.{kind_of(key)}.perguntas": key, **_OPEN}


def _keys_of(kind: Kind, motive: str | None) -> dict[str, Any]:
    """The keys of a row's questions on one kind; none where a result stands, or it is asked for another reason."""
    keys: dict[str, Any] = {"$ifNull": [f"$normalizacao.{kind}.perguntas", []]}
    if motive is not None:
        keys = {"$cond": [{"$eq": [f"$normalizacao.{kind}.motivo", {"$literal": motive}]}, keys, []]}
    return {"$cond": [{"$gt": [f"${RESULT_FIELD[kind]}", None]}, [], keys]}


def _asked(seen: StoredAppointment, kind: Kind, secret: bytes) -> list[str]:
    text = seen.texts[kind]
    return questions(kind, text.text, str(text.reason), text.understood, secret=secret)


def _asking_now(seen: StoredAppointment, kind: Kind, secret: bytes) -> UpdateOne:
    keys = {f"normalizacao.{kind}.perguntas": _asked(seen, kind, secret)}
    return UpdateOne(as_read(seen, [kind]), {"$set": keys})


def _informed(record: Record, kind: Kind, answer: Known, key: str, now: datetime) -> dict[str, Any]:
    """The update that adds what is known of a text which still waits for something else."""
    mark = about(record, kind)
    understood = {**(mark.get("entendido") or {}), **answer.fields}
    left = [asked for asked in mark.get("perguntas") or () if asked != key]
    fields = {f"normalizacao.{kind}": {**mark, "entendido": understood, "perguntas": left}, "updated_at": now}
    return {"$set": fields, "$inc": {"normalizacao.revisao": 1}}


def _image(seen: StoredAppointment, record: Record, decision: Decision, now: datetime) -> Record:
    """What the decision writes over."""
    kind = decision.kind
    mirrors = ("cpf", "rg") if kind is Kind.DOCUMENT else ()
    before = {name: record.get(name) for name in (RESULT_FIELD[kind], *mirrors)}
    return {
        "_id": f"{decision.id}:{seen.handle}:{seen.revision}",  # read again, it is another one
        "revisao": seen.revision,
        "import_id": decision.id,
        "registro": seen.handle,
        "antes": {**before, f"normalizacao/{kind}": dict(about(record, kind))},  # a stored name has no point
        "expira_em": expiry(now),
    }


def _example(record: Record, kind: Kind) -> Example:
    seen = StoredAppointment.of(record)
    text = seen.texts[kind]
    return Example(
        id=seen.id,
        text=text.text,
        motive=text.reason or "",
        understood=dict(text.understood or {}),
        unit=seen.fields.get("nome_unidade", ""),
        patient=seen.fields.get("nome_paciente", ""),
        contact=_contact(record),
        natural_key=seen.fields.get("id_agendamento", ""),
        date=utc(record.get("data_agendamento")),
    )


def _contact(record: Record) -> frozenset[str]:
    """What tells a patient from another of the same name: phone and cards, as typed."""
    names = ("telefone", "carteira_convenio", "documento_completo", "cpf")
    return frozenset(str(record[name]) for name in names if record.get(name))


def _decision(record: Record) -> Decision:
    return Decision(**{field: record[name] for field, name in _STORED.items() if record.get(name) is not None})
