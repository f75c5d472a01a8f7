"""Every request the provider got is read: no phone, no document, no name, no e-mail of anyone is in it."""

import asyncio
import itertools
import json
import random
import re
from pathlib import Path

import httpx2
import pytest

from normalizer.domain.appointment import Appointment
from normalizer.llm import tokens
from normalizer.llm.client import LlmClient
from normalizer.llm.coalescer import Coalescer
from normalizer.queue.service import TaskService
from normalizer.runtime import build_worker
from normalizer.settings import settings_of
from normalizer.worker.pipeline import Pipeline
from tests.unit.loose_cells import loose_cells

GOLD = Path(__file__).parents[1] / "gold"
NAMES = ["Maria Aparecida Lima", "João Batista Nogueira", "Ana Clara Prado", "José Carlos Queiroz"]


def rows(name):
    return [json.loads(line) for line in (GOLD / name).read_text(encoding="utf-8").splitlines()]


def digits(text):
    return re.sub(r"\D", "", text)


def burdened():
    """Addresses with what clinics type around them, and the secrets put there."""
    chance = random.Random(11)
    documents = itertools.cycle([row["expected"] for row in rows("dev_documents.jsonl") if row["expected"]])
    secrets, texts = set(), []
    for row in rows("dev_addresses.jsonl"):
        document, name = next(documents), chance.choice(NAMES)
        phone = f"9{chance.randrange(10**7, 10**8)}"
        cpf, rg = document["cpf"], document["rg"]
        additions = [
            f"tel (11) {phone[:5]}-{phone[5:]}",
            f"whatsapp 11{phone}",
            f"paciente: {name}",
            f"A/C {name}",
            f"{name.split()[0].lower()}@exemplo.com.br",
            *([f"CPF {cpf}", f"cpf: {document['cpf_formatted']}"] if cpf else []),
            *([f"RG {rg}", f"rg: {document['rg_formatted']}"] if rg else []),
            f"carteirinha {chance.randrange(10**12, 10**13)}",
        ]
        extra = chance.sample(additions, 2)
        texts.append(
            ", ".join(chance.sample([*extra, row["text"]], 3) if chance.random() < 0.3 else [row["text"], *extra])
        )
        secrets |= {phone, *(value for value in (cpf, rg) if value), *name.lower().split()}
    for cell, names in loose_cells(500, chance):
        texts.append(cell)
        secrets |= {secret for secret in names if not secret.isdigit() or len(secret) > 7}
    return texts, secrets


async def requests(provider):
    async with httpx2.AsyncClient() as http:
        return (await http.get(f"{provider.root_url}/requests")).json()["requests"]


def records_of(bodies):
    prompts = [body["messages"][-1]["content"] for body in bodies]
    return [record for prompt in prompts for record in re.findall(r"^r\d\d: (.*)$", prompt, re.MULTILINE)]


@pytest.fixture
async def sent(start_provider):
    """The prompts the provider got when all burdened addresses were asked about."""
    texts, secrets = burdened()
    provider = start_provider()

    client = LlmClient(api_key="test", model="simulated", base_url=provider.url)
    coalescer = Coalescer(client, count=tokens.counter("gpt-6-luna"), linger_ms=0)
    answered = 0
    async for outcomes in coalescer.resolve_many(texts, deadline=asyncio.get_running_loop().time() + 60):
        answered += len(outcomes)
    assert answered == len(set(texts))
    await coalescer.close()
    await client.close()
    bodies = await requests(provider)
    records = records_of(bodies)
    assert len(records) > 0.9 * len(texts)
    return records, secrets


async def test_no_phone_document_name_or_mail_leaves(sent):
    records, secrets = sent
    whole = "\n".join(records)

    numbers = {secret for secret in secrets if secret.isdigit()}
    words = secrets - numbers
    typed_in_addresses = " ".join(row["text"].lower() for row in rows("dev_addresses.jsonl"))
    leaked = [word for word in words if word not in typed_in_addresses and re.search(rf"\b{word}\b", whole.lower())]
    assert not leaked
    assert "@" not in "".join(records)
    for record in records:
        assert not any(number in digits(record) for number in numbers), "a document or phone left the machine"


async def test_no_run_of_seven_digits_leaves_but_one_cep_a_record(sent):
    records, _ = sent

    for record in records:
        runs = re.findall(r"\d(?:[.\-/–]?\d){6,}", record)
        assert len(runs) <= 1
        assert all(len(digits(run)) == 8 for run in runs)


async def test_a_lone_number_that_is_the_appointments_rg_does_not_leave_as_a_cep(start_provider):
    """Eight digits, no label, and of the state's CEP range: only the document beside it tells what they are."""
    provider = start_provider()

    client = LlmClient(api_key="test", model="simulated", base_url=provider.url)
    coalescer = Coalescer(client, count=tokens.counter("gpt-6-luna"), linger_ms=0)
    text = "rj rio de janeiro jardim tal rua das acácias 12 22790285"  # in no order the rules read
    appointments = [
        Appointment("a", {"endereco_completo": text, "documento_completo": "RG 22.790.285, CPF 111.444.777-35"}),
        Appointment("b", {"endereco_completo": text.replace("12", "14"), "documento_completo": "RG 12.345.678-9"}),
    ]
    deadline = asyncio.get_running_loop().time() + 60
    async for _ in Pipeline(cache=None, coalescer=coalescer).run(appointments, deadline=deadline):
        pass
    await coalescer.close()
    await client.close()

    assert sorted(record.endswith("22790285") for record in records_of(await requests(provider))) == [False, True]


async def test_the_names_and_phones_of_an_import_leave_with_no_address(
    start_provider, redis_url, mongo_url, database, mongo
):
    """Typed into the address without any label; known from the appointment itself."""
    provider = start_provider()
    settings = settings_of(
        {
            "REDIS_URL": redis_url,
            "MONGODB_URL": mongo_url,
            "DATABASE_NAME": database,
            "OPENAI_API_KEY": "k",
            "OPENAI_BASE_URL": provider.url,
            "BATCH_LINGER_MS": "20",
        }
    )
    for number, name in enumerate(NAMES):
        phone = f"119876543{number}0"
        address = f"Rua das Acácias {number} Jardim Tal, Cidade Que Não Existe"
        text = f"{name.upper()} {phone[2:7]} {phone[7:]} {address} {phone}"
        row = {"nome_paciente": name, "telefone": phone, "endereco_completo": text, "documento_completo": ""}
        mongo["appointments"].insert_one({"_id": str(number), **row, "normalizacao": {"status": "pendente"}})
    async with TaskService(redis_url) as tasks:
        await tasks.enqueue_many([str(number) for number in range(len(NAMES))])

    worker = build_worker(settings, burst=True, handle_signals=False, poll_delay=0.05)
    await worker.async_run()
    await worker.close()

    records = records_of(await requests(provider))
    assert len(records) >= len(NAMES)
    for record in records:
        assert re.fullmatch(r"(?:#A )?Rua das #[AB] \d Jardim #[BC], Cidade #[CD]", record)
