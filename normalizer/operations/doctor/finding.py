"""One thing the doctor looked at: how it is, and the one line that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.padding import Padding

if TYPE_CHECKING:
    from rich.console import Console


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "aviso"
    WRONG = "erro"
    SETTING = "configuração"  # nothing can run before it is mended
    AWAY = "fora do ar"  # a service cannot be reached


_MARKS = {Level.OK: "[green]✔[/green]", Level.WARNING: "[yellow]![/yellow]"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found in one area; `fix` is empty where nothing is to be done. Holds no secret, no patient's datum."""

    area: str
    level: Level
    what: str
    fix: str = ""


def good(area: str, what: str) -> Finding:
    """Nothing to do."""
    return Finding(area, Level.OK, what)


def warning(area: str, what: str, fix: str) -> Finding:
    """It works, and could be better."""
    return Finding(area, Level.WARNING, what, fix)


def wrong(area: str, what: str, fix: str) -> Finding:
    """It does not work."""
    return Finding(area, Level.WRONG, what, fix)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the doctor found."""

    findings: Sequence[Finding]

    @property
    def exit_code(self) -> int:
        """0 ok or warnings only, 2 a wrong setting, 3 a service is away, 1 anything else that is wrong."""
        levels = {finding.level for finding in self.findings}
        for level, code in ((Level.SETTING, 2), (Level.AWAY, 3), (Level.WRONG, 1)):
            if level in levels:
                return code
        return 0

    def as_dict(self) -> dict[str, Any]:
        """The JSON document of `doctor --json`."""
        names = {"area": "area", "level": "nivel", "what": "achado", "fix": "como_corrigir"}
        found = [{names[name]: value for name, value in asdict(finding).items()} for finding in self.findings]
        return {"ok": self.exit_code == 0, "achados": found}

    def show(self, console: Console) -> None:
        """The same for people."""
        area = ""
        for finding in self.findings:
            if finding.area != area:
                area = finding.area
                console.print(f"[bold]{escape(area)}[/bold]")
            console.print(f"  {_MARKS.get(finding.level, '[red]✖[/red]')} {escape(finding.what)}")
            if finding.fix:
                console.print(Padding(f"→ {escape(finding.fix)}", (0, 0, 0, 4)))
        warnings = sum(finding.level is Level.WARNING for finding in self.findings)
        errors = sum(finding.level not in {Level.OK, Level.WARNING} for finding in self.findings)
        console.print(f"\n{errors} erros, {warnings} avisos.")
