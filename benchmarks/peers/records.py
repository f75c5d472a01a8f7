"""What every peer does with a record: load its texts, and save what the model said of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import bson
import pymongo

from normalizer.domain.appointment import Appointment, Kind, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from normalizer.settings import Settings

Answers: TypeAlias = "Mapping[Kind, Mapping[str, Any]]"


def where(settings: Settings) -> tuple[str, str]:
    """The URL and the database of the appointments."""
    return settings.mongodb_url.get_secret_value(), settings.database_name


def of_ids(ids: Iterable[str]) -> dict[str, Any]:
    """The query for the records of these ids."""
    return {"_id": {"$in": [bson.ObjectId(each) for each in ids]}}


def texts(stored: Mapping[str, Any]) -> dict[Kind, str]:
    """The texts a record carries."""
    appointment = Appointment(str(stored["_id"]), stored)
    return {kind: text for kind in Kind if (text := appointment.text(kind))}


def pair(stored: Sequence[Mapping[str, Any]], kind: Kind) -> list[tuple[Any, str]]:
    """Key and text of those records that carry a text of this kind."""
    return [(record["_id"], found[kind]) for record in stored if kind in (found := texts(record))]


def change(answers: Answers) -> dict[str, Any]:
    """The update that saves a record's answers, as they are."""
    done = {"normalizacao.status": Status.DONE.value, "normalizacao.atualizado_em": datetime.now(UTC)}
    return {"$set": {**done, **{f"{kind}_normalizado": value for kind, value in answers.items()}}}


def said(kind: Kind, keys: Sequence[Any], values: Sequence[Mapping[str, Any]]) -> dict[Any, Answers]:
    """What one call said of a batch, by record."""
    return {key: {kind: value} for key, value in zip(keys, values, strict=True)}


def together(calls: Iterable[Mapping[Any, Answers]]) -> dict[Any, Answers]:
    """What several calls said of the same batch, by record."""
    found: dict[Any, dict[Kind, Mapping[str, Any]]] = {}
    for call in calls:
        for key, answers in call.items():
            found.setdefault(key, {}).update(answers)
    return dict(found)


def changes(stored: Sequence[Mapping[str, Any]], answers: Mapping[Any, Answers]) -> list[pymongo.UpdateOne]:
    """One update for each record; one without texts is done as it stands."""
    return [pymongo.UpdateOne({"_id": record["_id"]}, change(answers.get(record["_id"], {}))) for record in stored]
