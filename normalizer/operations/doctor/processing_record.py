"""Record of processing activities (LGPD, art. 37) of this installation: `normalizer doctor --lgpd --registro`.

What the running configuration decides is filled in; what only the clinic knows stands as "a preencher".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from normalizer.operations.doctor.privacy import is_internal

if TYPE_CHECKING:
    from normalizer.settings import Settings

_OPEN: Final = "a preencher"
_TRANSFER: Final = (
    "Se o provedor está fora do Brasil, transferência internacional (art. 33): na União Europeia e no EEE, decisão de "
    "adequação (Resolução CD/ANPD nº 32/2026); nos demais países, cláusulas-padrão contratuais (Resolução CD/ANPD nº "
    "19/2024)"
)


def processing_record(settings: Settings) -> Mapping[str, str]:
    """The entry by heading, in the order of the register; no secret, no user name and no password in it."""
    return {
        "Operação": "Normalização de endereços e documentos dos agendamentos importados",
        "Controlador e encarregado": _OPEN,
        "Finalidade": "Agendar, confirmar e executar atendimentos e coletas no endereço do paciente",
        "Base legal (arts. 7º e 11)": _OPEN,
        "Titulares": "Pacientes com agendamento",
        "Dados": "Nome, telefone, endereço, CPF, RG, convênio, data e tipo do atendimento (dados de saúde)",
        "Onde ficam": (
            f"MongoDB ({_host(settings.mongodb_url.get_secret_value())}, base {settings.database_name}): os "
            f"agendamentos. Redis ({_host(settings.redis_url.get_secret_value())}): ids de agendamentos e respostas "
            "cifradas"
        ),
        "Prazos": (
            f"Agendamentos: {_OPEN}. Cópias para desfazer uma importação: 24 horas. Linhas recusadas: 7 dias. "
            f"Resultados de jobs: {settings.arq_keep_result} s. Respostas na cache: 90 dias; correções, sem prazo"
        ),
        "Compartilhamento": ". ".join(_shared(settings)),
        "Segurança": (
            "Acesso por chave em dois papéis; documentos mascarados para leitores; cache com chaves HMAC e valores "
            "AES-GCM; logs, métricas e fila sem dado de paciente"
        ),
    }


def _host(url: str) -> str:
    host = urlsplit(url.split(",", 1)[0]).hostname or "localhost"
    return f"{host}, rede interna" if is_internal(url) else host


def _shared(settings: Settings) -> Iterator[str]:
    if settings.openai_api_key is None or not settings.address_normalization_enabled:
        yield "Nenhum texto sai desta instalação: a IA não é chamada"
    else:
        provider = urlsplit(settings.base_url or "https://api.openai.com").hostname
        yield (
            f"Provedor de IA ({provider}, modelo {settings.openai_model}), como operador: textos de endereço que "
            "regras e cache não resolvem, sem telefone, e-mail, documento nem nome reconhecível"
        )
        yield _TRANSFER
    if settings.sentry_dsn is not None:
        yield "Sentry: tipos de erro e lugares no código, nenhum dado pessoal"
    if settings.traces_endpoint is not None:
        yield "Coletor OpenTelemetry: tempos e contagens, nenhum dado pessoal"
