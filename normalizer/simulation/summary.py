"""Summary of the demo: what came of the rows, what limited it, and what it saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape
from rich.table import Table

from normalizer.domain.wording import number

if TYPE_CHECKING:
    from rich.console import Console

WORKERS: Final = 2
WORKERS_PART: Final = "workers"  # as the summary calls what they take of the machine


@dataclass(slots=True)
class Summary:
    """What came of the run; counts of appointments unless named otherwise."""

    rows: int
    concluido: int
    revisar: int
    falhou: int
    pendente: int
    por_origem: dict[str, int]
    motivos: dict[str, int]
    llm_calls: int
    tokens_in: int
    tokens_out: int
    calls_one_per_field: int
    tokens_one_per_field: int
    seconds: float
    usable: int
    usable_concluido: int
    model: str
    simulated: bool
    cpu_s: Mapping[str, float]
    """Processor seconds of each part while the rows were worked on, by name; empty where nobody counts them."""
    samples: list[tuple[str, str]] = field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        """From the start of the import to the last appointment saved."""
        return self.rows / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The one JSON document of `--json`."""
        told = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in {"samples", "simulated"}}
        told |= {"seconds": round(self.seconds, 2), "rows_per_second": round(self.rows_per_second, 1)}
        return told | {"provider": "simulated" if self.simulated else "live"}

    def show(self, console: Console) -> None:
        """The summary for people."""
        source = "modelo simulado" if self.simulated else f"modelo {self.model}"
        console.print(
            f"\n[bold]{number(self.rows)} agendamentos em {number(self.seconds, 1)} s[/bold] "
            f"({number(self.rows_per_second)} por segundo, {WORKERS} workers, {source})\n"
        )
        for line in self._spent():
            console.print(line)
        console.print(self._results())
        console.print(self._savings())
        if self.samples:
            console.print("\n[bold]Antes → depois[/bold]")
            for before, after in self.samples:
                console.print(f"  [dim]{escape(before)}[/dim]\n  → {escape(after)}", soft_wrap=True)

    def _spent(self) -> Iterator[str]:
        """The part that was busiest, beside what a row took of the workers themselves."""
        if not (worker_s := self.cpu_s.get(WORKERS_PART)):
            return
        name, most_s = max(self.cpu_s.items(), key=lambda part: part[1])
        share, us = most_s / self.seconds, 1e6 * worker_s / self.rows
        yield f"O que limitou: {name} ({share:.0%} de um núcleo)."
        yield f"Os workers gastaram {us:.0f} µs de CPU por linha: {number(round(1e6 / us))} linhas/s num núcleo.\n"

    def _results(self) -> Table:
        table = Table("", "agendamentos", title="Resultado", title_justify="left", min_width=60)
        table.columns[1].justify = "right"
        table.add_row("[green]concluídos[/green]", str(self.concluido))
        table.add_row("[yellow]em revisão[/yellow]", str(self.revisar))
        for reason, count in sorted(self.motivos.items(), key=lambda item: -item[1]):
            table.add_row(f"[dim]  {reason}[/dim]", f"[dim]{count}[/dim]")
        table.add_row("[red]falharam[/red]", str(self.falhou))
        if self.pendente:
            table.add_row("[red]pendentes[/red]", str(self.pendente))
        return table

    def _savings(self) -> Table:
        table = Table("", "aqui", "uma chamada por campo", title="Custo", title_justify="left", min_width=60)
        for column in table.columns[1:]:
            column.justify = "right"
        table.add_row("chamadas ao modelo", str(self.llm_calls), number(self.calls_one_per_field))
        here = self.tokens_in + self.tokens_out
        table.add_row("tokens", number(here), f"{number(self.tokens_one_per_field)} (calculados)")
        if here:
            table.add_row("", "", f"[bold]{number(self.tokens_one_per_field / here)}× mais[/bold]")
        origins = ", ".join(f"{name} {count}" for name, count in sorted(self.por_origem.items()))
        table.add_row("de onde vieram as respostas", origins, "")
        return table
