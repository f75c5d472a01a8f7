"""Loose texts, normalized from a file or standard input."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from normalizer.cli.app import FAILED, app, escaped, stderr
from normalizer.cli.language import OPTIONS, Command
from normalizer.domain.appointment import Kind
from normalizer.errors import InvalidInput

_NO_FILE: dict[type[OSError], str] = {
    FileNotFoundError: "nenhum arquivo nesse caminho",
    IsADirectoryError: "uma pasta",
    PermissionError: "um arquivo sem permissão de leitura",
}
_KINDS = {"address": Kind.ADDRESS, "document": Kind.DOCUMENT}


@app.command(cls=Command, options_metavar=OPTIONS)
def normalize(
    kind: Annotated[str, typer.Argument(help="address ou document", metavar="address|document")],
    file: Annotated[
        Path | None, typer.Argument(help="JSON Lines com id e text; - ou nada lê a entrada padrão.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Só regras; nenhuma chamada ao modelo.")] = False,
) -> None:
    """Normaliza textos avulsos: {"id","text"} por linha, {"id","result","origem","motivo"} na mesma ordem."""
    from normalizer.operations.normalize_texts import TextAnswer, normalize_lines
    from normalizer.runtime import open_normalization
    from normalizer.settings import load_settings

    if kind not in _KINDS:
        raise typer.BadParameter(f"esperado address ou document; encontrado {kind!r}.", param_hint="address|document")
    lines = _lines(file)
    settings = load_settings()

    async def run() -> list[TextAnswer]:
        async with open_normalization(settings, offline=offline) as pipeline:
            return await normalize_lines(_KINDS[kind], lines, pipeline=pipeline, timeout_s=settings.arq_job_timeout)

    bad = 0
    for answer in asyncio.run(run()):
        sys.stdout.buffer.write(orjson.dumps(answer.as_dict()) + b"\n")
        if answer.error:
            bad += 1
            stderr.print(f"[yellow]Aviso:[/yellow] {escaped(answer.error)}")
    sys.stdout.buffer.flush()
    if bad:
        raise typer.Exit(FAILED)


def _lines(file: Path | None) -> list[bytes]:
    if file is None or str(file) == "-":
        return sys.stdin.buffer.read().splitlines()
    try:
        return file.read_bytes().splitlines()
    except OSError as error:
        raise InvalidInput(
            where=str(file),
            expected="um arquivo que possa ser lido",
            found=_NO_FILE.get(type(error), "erro de leitura"),
            mend="Confira o caminho e a permissão.",
        ) from None
