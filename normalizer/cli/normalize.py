"""Loose texts, normalized from a file or standard input."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import orjson
import typer

from normalizer.cli.app import FAILED, app, bar, escaped, stderr
from normalizer.cli.language import OPTIONS, Command
from normalizer.domain.appointment import Kind
from normalizer.errors import InvalidInput

if TYPE_CHECKING:
    from normalizer.settings import Settings

_TOLD_EVERY_S: Final = 5.0
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
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="SAÍDA", help="Escreve neste arquivo e continua depois do que ele já tem."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Mostra, passo a passo, como as regras leem cada endereço.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Com --explain: um documento JSON por linha.")] = False,
) -> None:
    """Normaliza textos avulsos: {"id","text"} por linha, {"id","result","origem","motivo"} na mesma ordem.

    Cada linha sai assim que ela e as anteriores são conhecidas; Ctrl-C guarda as que saíram.
    """
    from normalizer.settings import load_settings

    if kind not in _KINDS:
        raise typer.BadParameter(f"esperado address ou document; encontrado {kind!r}.", param_hint="address|document")
    lines = [line for line in _lines(file) if line.strip()]
    if explain:
        _explain(kind, lines, as_json=as_json)
        return
    done = _already_in(resume, lines) if resume is not None else 0
    settings = load_settings()
    with _output(resume) as out, _progress(done, len(lines)) as moved:
        bad = asyncio.run(_write(_KINDS[kind], lines[done:], settings, out, moved, offline=offline))
    if bad:
        raise typer.Exit(FAILED)


async def _write(
    kind: Kind,
    lines: Sequence[bytes],
    settings: Settings,
    out: BinaryIO,
    moved: Callable[[], None],
    *,
    offline: bool,
) -> int:
    """Write each answer as it is known; returns how many lines were wrong or not answered."""
    from normalizer.operations.normalize_texts import normalize_lines
    from normalizer.runtime import open_normalization

    bad = 0
    async with open_normalization(settings, offline=offline) as pipeline:
        answers = normalize_lines(kind, lines, pipeline=pipeline, timeout_s=settings.arq_job_timeout)
        async with contextlib.aclosing(answers):
            async for answer in answers:
                out.write(orjson.dumps(answer.as_dict()) + b"\n")
                out.flush()
                moved()
                if answer.error:
                    bad += 1
                    stderr.print(f"[yellow]Aviso:[/yellow] {escaped(answer.error)}")
    return bad


@contextlib.contextmanager
def _output(resume: Path | None) -> Iterator[BinaryIO]:
    if resume is None:
        yield sys.stdout.buffer
        return
    try:
        with resume.open("ab") as out:
            yield out
    except OSError as error:
        raise _unusable(resume, error) from None


@contextlib.contextmanager
def _progress(done: int, total: int) -> Iterator[Callable[[], None]]:
    """How far it is, on stderr: a bar where somebody looks at it, else a line now and then."""
    count, told_at = itertools.count(done + 1), time.monotonic()
    with bar("normalize") as shown:

        def moved() -> None:
            nonlocal told_at
            number = next(count)
            shown(number, total)
            if not stderr.is_terminal and time.monotonic() - told_at >= _TOLD_EVERY_S:
                told_at = time.monotonic()
                stderr.print(f"{number} de {total} linhas")

        shown(done, total)
        try:
            yield moved
        except KeyboardInterrupt:
            stderr.print(f"{next(count) - 1} de {total} linhas escritas; com --resume SAÍDA continua daí.")
            raise


def _already_in(output: Path, lines: Sequence[bytes]) -> int:
    """How many lines the output has already, in the order of the input; a last one that broke off is cut away."""
    try:
        written = output.read_bytes()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise _unusable(output, error) from None
    whole = written[: written.rfind(b"\n") + 1]
    if len(whole) < len(written):
        output.write_bytes(whole)
    ids = [_id_of(line) for line in whole.splitlines()]
    if ids != [_id_of(line) for line in lines[: len(ids)]]:
        raise InvalidInput(
            where=str(output),
            expected="as respostas das primeiras linhas da entrada, na mesma ordem",
            found="respostas de outra entrada",
            fix="Indique a saída desta entrada, ou um arquivo novo.",
        )
    return len(ids)


def _id_of(line: bytes) -> object:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return row.get("id") if isinstance(row, dict) else None


def _explain(kind: str, lines: list[bytes], *, as_json: bool) -> None:
    """Print how the rules read each line: JSON Lines as for `normalize`, or plain texts."""
    from normalizer.domain.address.explain import explain

    if _KINDS[kind] is not Kind.ADDRESS:
        raise typer.BadParameter("só endereços podem ser explicados.", param_hint="--explain")
    for line in filter(bytes.strip, lines):
        row_id, text = _id_and_text(line)
        explanation = explain(text)
        shown = orjson.dumps({"id": row_id, **explanation.as_dict()}) if as_json else f"{explanation}\n".encode()
        sys.stdout.buffer.write(shown + b"\n")
    sys.stdout.buffer.flush()


def _id_and_text(line: bytes) -> tuple[object, str]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        row = None
    return (
        (row.get("id"), str(row.get("text") or "")) if isinstance(row, dict) else (None, line.decode(errors="replace"))
    )


def _lines(file: Path | None) -> list[bytes]:
    if file is None or str(file) == "-":
        return sys.stdin.buffer.read().splitlines()
    try:
        return file.read_bytes().splitlines()
    except OSError as error:
        raise _unusable(file, error) from None


def _unusable(file: Path, error: OSError) -> InvalidInput:
    return InvalidInput(
        where=str(file),
        expected="um arquivo que possa ser usado",
        found=_NO_FILE.get(type(error), "erro de leitura ou escrita"),
        fix="Confira o caminho e a permissão.",
    )
