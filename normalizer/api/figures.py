"""The JSON shapes of status, workers and cost. Their earlier, English names come beside, for one release."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from normalizer.api.views import ImportView, Progress


class _View(BaseModel):
    model_config = ConfigDict(extra="allow")  # the earlier names


class WorkerView(_View):
    """One worker process, as it said at its last sign. Moments are Unix ms."""

    id: str = Field(examples=["servidor-1:77:abcdef"])
    maquina: str = Field(examples=["servidor-1"])
    pid: int
    versao: str
    estado: str = Field(description="running, paused ou stopping.", examples=["running"])
    iniciado_em_ms: int
    sinal_em_ms: int
    grupos: int = Field(description="Em andamento agora.")
    em_maos: int = Field(description="Agendamentos destes grupos.")
    ultima_retirada_em_ms: int | None
    ultimo_erro: str | None
    atraso_ms: int = Field(description="O maior atraso do processo desde o sinal anterior.")
    feitos: int
    falhas: int
    adiados: int
    filas: list[str]
    relogio_do_redis_ms: int = Field(description="Quanto o relógio do Redis está à frente.")


class GoneWorkerView(_View):
    """A worker that ended without saying so, until somebody dismisses it."""

    id: str = Field(examples=["servidor-1:77:abcdef"])
    maquina: str = Field(examples=["servidor-1"])
    sinal_em_ms: int = Field(description="O último sinal anotado.")
    devolvidos: int = Field(description="Jobs que tinha em mãos e voltaram à fila.")
    esperam: int | None = Field(description="Destes, os que ainda não terminaram; nulo se são demais para contar.")
    seguiram: int | None = Field(description="Destes, os que outros terminaram (ou tinham quando morreram também).")


class SpendingView(_View):
    """What the model used."""

    chamadas: int
    textos: int
    tokens_entrada: int
    tokens_saida: int
    usd: float


class CostView(_View):
    """What the model cost, and whether it can be asked."""

    modelo: str
    parada_por: str | None = Field(description="Por que nada se pergunta até que alguém aja ou o dia vire.")
    disjuntor: str = Field(
        description="closed: as chamadas passam; open: o provedor está fora do ar; half-open: tenta-se uma.",
        examples=["closed"],
    )
    em_pausa: bool = Field(description="O provedor pediu uma pausa, de `espera_s`.")
    espera_s: float
    pedido_do_provedor: str | None
    modo: str | None = Field(description="Como se pede a resposta, depois da primeira.")
    hoje: SpendingView = Field(description="Desde a meia-noite (UTC).")
    mes: SpendingView
    orcamento_diario_usd: float | None
    por_importacao: dict[str, SpendingView]


class StatusView(_View):
    """Everything at one moment. While MongoDB or Redis never answered, what they know is not there."""

    em: datetime
    problema: str | None = Field(description="Que serviço não responde; os números são então os últimos conhecidos.")
    estado: str | None = Field(default=None, description="running, paused ou draining.", examples=["running"])
    na_fila: int | None = None
    em_andamento: int | None = None
    adiados: int | None = None
    mais_antigo_s: float | None = None
    por_segundo: float | None = None
    previsao_s: float | None = None
    agendamentos: dict[str, int] = Field(default={}, description="Por status.")
    motivos: dict[str, dict[str, int]] = Field(default={}, description="Do que está em revisão, por texto.")
    falhas: dict[str, int] = Field(default={}, description="Por causa.")
    base_de_ceps: dict[str, int] = {}
    ia: CostView | None = None
    eventos_nao_entregues: int | None = None
    filas_sem_worker: dict[str, int] = Field(default={}, description="Jobs por nome de fila que ninguém serve.")
    problemas_da_fila: list[str] = []
    workers: list[WorkerView] = []
    workers_mortos: list[GoneWorkerView] = []
    concluidos_hoje: int
    a_conferir: dict[str, int] = Field(description="Resolvidos que pedem um olhar.")
    progresso: Progress
    importacoes: list[ImportView]
