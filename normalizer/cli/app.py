"""The command itself, and what every command shares: exit codes, where results go and where words to people go."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text
from typer.exceptions import TyperException

from normalizer import __version__
from normalizer.cli.language import OPTIONS, SUBCOMMAND, Command, Group, slip, usage
from normalizer.errors import Misconfigured, NormalizerError, TransientError
from normalizer.observability.logs import configure_logging

if TYPE_CHECKING:
    from rich.console import RenderableType

    from normalizer.runtime import Producer

T = TypeVar("T")
OK, FAILED, USAGE, NOT_READY, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    name="normalizer",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    cls=Group,
    options_metavar=OPTIONS,
    subcommand_metavar=SUBCOMMAND,
    context_settings={"help_option_names": ["-h", "--help"]},
)
command: Final = partial(app.command, cls=Command, options_metavar=OPTIONS)


class _Terminal(Console):
    """Shows no control character of what it is given: a sheet's title or a forged key in Redis may bring one along."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Text as rich reads it, without what a terminal would obey."""
        return super().render_str(printable(text), **options)


stdout: Final = _Terminal(highlight=False)
stderr: Final = _Terminal(stderr=True, highlight=False, soft_wrap=True)  # a sentence is one line, also in a log

Json = Annotated[bool, typer.Option("--json", help="Um único documento JSON na saída padrão.")]


def main() -> None:
    """Entry point: run the command; turn a slip and our own errors into one sentence and an exit code."""
    try:
        sys.exit(app(standalone_mode=False) or OK)
    except (KeyboardInterrupt, typer.Abort):
        stderr.print("Interrompido.")
        sys.exit(INTERRUPTED)
    except NormalizerError as error:
        stderr.print(f"[red]Erro:[/red] {escaped(error)}")
        sys.exit(exit_code(error))
    except TyperException as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # help was asked for; it has been shown
            for line in usage(error).splitlines():
                stderr.print(escaped(line))
            stderr.print(f"[red]Erro:[/red] {escaped(slip(error))}")
        sys.exit(USAGE)


def exit_code(error: NormalizerError) -> int:
    """The documented exit code of an error."""
    if isinstance(error, TransientError):
        return NOT_READY
    if isinstance(error, Misconfigured):
        return USAGE
    return FAILED


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"normalizer {__version__}")
        raise typer.Exit


@app.callback()
def _quiet(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Mostra a versão e sai.")
    ] = False,
) -> None:
    """Normaliza endereços e documentos de agendamentos, em lotes e sem inventar nada."""
    configure_logging(
        "ERROR", json_lines=False
    )  # what a person need know is told in words; a worker configures it again, from LOG_LEVEL


def tell(document: Mapping[str, Any], shown: RenderableType, *, as_json: bool) -> None:
    """What a command found: one document on stdout, or the same for people."""
    if as_json:
        print_json(document)
    elif isinstance(shown, str):
        typer.echo(printable(shown))
    else:
        stdout.print(shown)


def with_producer(work: Callable[[Producer], Awaitable[T]]) -> T:
    """What the work brings that is done on store, queue and cache. Raises like `runtime.open_producer`."""
    from normalizer.runtime import open_producer

    async def run() -> T:
        async with open_producer() as producer:
            return await work(producer)

    return asyncio.run(run())


def print_json(document: Mapping[str, Any]) -> None:
    """One document on stdout."""
    sys.stdout.buffer.write(orjson.dumps(dict(document), option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.buffer.flush()


def escaped(value: object) -> str:
    """Text that `stdout` and `stderr` show as it is: no markup."""
    return str(value).replace("[", r"\[")


def printable(value: object) -> str:
    """Text without control characters, which a terminal would obey; lines stay lines."""
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in str(value))


@contextlib.contextmanager
def bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """How far it is, on stderr, where somebody looks at it."""
    with Progress(
        TextColumn(f"[bold]{escaped(printable(name))}[/bold]"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=stderr,
        transient=True,
        disable=not stderr.is_terminal,
    ) as shown:
        task = shown.add_task("", total=None)
        yield lambda done, rows: shown.update(task, completed=done, total=rows or None)
