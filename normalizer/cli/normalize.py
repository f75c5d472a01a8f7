"""Loose texts, normalized from a file or standard input."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, TypeAlias

import orjson
import typer

from normalizer.cli.app import FAILED, bar, command, escaped, stderr
from normalizer.domain.appointment import Kind
from normalizer.errors import InvalidInput

if TYPE_CHECKING:
    from normalizer.settings import Settings

Line: TypeAlias = tuple[int, bytes]

_TOLD_EVERY_S: Final = 5.0
_NO_FILE: dict[type[OSError], str] = {
    FileNotFoundError: "nenhum arquivo nesse caminho",
    IsADirectoryError: "uma pasta",
    PermissionError: "um arquivo sem permissão de leitura",
}
_KINDS = {"address": Kind.ADDRESS, "document": Kind.DOCUMENT}


@command()
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
    lines = [(number, line) for number, line in enumerate(_lines(file), start=1) if line.strip()]
    if explain:
        _explain(kind, [line for _, line in lines], as_json=as_json)
        return
    had = _already_in(resume, lines) if resume is not None else []
    settings = load_settings()
    with _output(resume, lines, had) as out:
        try:
            bad = asyncio.run(_write(_KINDS[kind], out, settings, offline=offline))
        except KeyboardInterrupt:
            stderr.print(f"{out.written} de {len(lines)} linhas escritas; com --resume SAÍDA continua daí.")
            raise
    if bad:
        raise typer.Exit(FAILED)


async def _write(kind: Kind, out: _Output, settings: Settings, *, offline: bool) -> int:
    """Write each answer as it is known; returns how many lines were wrong or not answered."""
    from normalizer.operations.normalize_texts import normalize_lines
    from normalizer.runtime import open_normalization

    bad, timeout_s = 0, settings.arq_job_timeout
    async with _progress(out) as moved, open_normalization(settings, offline=offline) as pipeline:
        answers = normalize_lines(kind, out.left(), pipeline=pipeline, timeout_s=timeout_s, moved=moved)
        async with contextlib.aclosing(answers):
            async for answer in answers:
                out.write(orjson.dumps(answer.as_dict()))
                if answer.error:
                    bad += 1
                    stderr.print(f"[yellow]Aviso:[/yellow] {escaped(answer.error)}")
    return bad


class _Output:
    """The answers, in the order of their lines, each written once those before it are known.

    Args:
        lines: the questions, each with its number in the input.
        had: the answers of an earlier run, None for a line that was not answered; a question may have none at all.
        file: what holds the answers before the first that is missing, and takes the others.
    """

    def __init__(self, lines: Sequence[Line], had: Sequence[bytes | None], file: BinaryIO) -> None:
        self.lines, self._file, self._at = lines, file, _first_missing(had)
        self._answers = [*had, *[None] * (len(lines) - len(had))]

    @property
    def written(self) -> int:
        """How many answers the file holds."""
        return self._at

    def left(self) -> list[Line]:
        """The questions without an answer."""
        return [line for line, answer in zip(self.lines, self._answers, strict=True) if answer is None]

    def write(self, answer: bytes) -> None:
        """Write the answer to the first question that has none, and those behind it that were known before."""
        self._answers[self._at] = answer
        while self._at < len(self._answers) and (known := self._answers[self._at]) is not None:
            self._file.write(known + b"\n")
            self._at += 1
        self._file.flush()

    def keep(self) -> None:
        """Lose no answer of an earlier run, however this one ends: what is missing before them stays not answered."""
        from normalizer.operations.normalize_texts import unanswered

        while any(answer is not None for answer in self._answers[self._at :]):
            self.write(orjson.dumps(unanswered(_row(self.lines[self._at][1]).get("id")).as_dict()))


@contextlib.contextmanager
def _output(resume: Path | None, lines: Sequence[Line], had: Sequence[bytes | None]) -> Iterator[_Output]:
    if resume is None:
        yield _Output(lines, [], sys.stdout.buffer)
        return
    try:
        with resume.open("ab") as file:
            file.truncate(sum(len(answer or b"") + 1 for answer in had[: _first_missing(had)]))
            out = _Output(lines, had, file)
            try:
                yield out
            finally:
                out.keep()
    except OSError as error:
        raise _unusable(resume, error) from None


@contextlib.asynccontextmanager
async def _progress(out: _Output) -> AsyncIterator[Callable[[], None]]:
    """How many lines are answered, on stderr: a bar where somebody looks at it, else a line now and then."""
    done, total = len(out.lines) - len(out.left()), len(out.lines)
    with bar("normalize") as shown:

        def moved() -> None:
            nonlocal done
            done += 1
            shown(done, total)

        async def tell() -> None:
            while not stderr.is_terminal:
                await asyncio.sleep(_TOLD_EVERY_S)
                stderr.print(f"{done} de {total} linhas respondidas")

        shown(done, total)
        telling = asyncio.create_task(tell(), name="progress")
        try:
            yield moved
        finally:
            telling.cancel()


def _already_in(output: Path, lines: Sequence[Line]) -> list[bytes | None]:
    """The answers the output has, in the order of the input, None where nobody answered; without one that broke off."""
    from normalizer.operations.normalize_texts import NOT_ANSWERED

    try:
        written = output.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unusable(output, error) from None
    answers = written.split(b"\n")[:-1]
    rows = [_row(answer) for answer in answers]
    if [row.get("id") for row in rows] != [_row(line).get("id") for _, line in lines[: len(rows)]]:
        raise InvalidInput(
            where=str(output),
            expected="as respostas das primeiras linhas da entrada, na mesma ordem",
            found="respostas de outra entrada",
            fix="Indique a saída desta entrada, ou um arquivo novo.",
        )
    return [None if row.get("motivo") == NOT_ANSWERED else answer for row, answer in zip(rows, answers, strict=True)]


def _first_missing(had: Sequence[bytes | None]) -> int:
    return next((at for at, answer in enumerate(had) if answer is None), len(had))


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return row if isinstance(row, dict) else {}


def _explain(kind: str, lines: list[bytes], *, as_json: bool) -> None:
    """Print how the rules read each line: JSON Lines as for `normalize`, or plain texts."""
    from normalizer.domain.address.explain import explain

    if _KINDS[kind] is not Kind.ADDRESS:
        raise typer.BadParameter("só endereços podem ser explicados.", param_hint="--explain")
    for line in filter(bytes.strip, lines):
        row = _row(line) or {"text": line.decode(errors="replace")}
        explanation = explain(str(row.get("text") or ""))
        shown = orjson.dumps({"id": row.get("id")} | explanation.as_dict()) if as_json else f"{explanation}\n".encode()
        sys.stdout.buffer.write(shown + b"\n")
    sys.stdout.buffer.flush()


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
