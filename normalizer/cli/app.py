"""The command itself, and what every command shares: exit codes, where results go and where words to people go.

Typer has no translations: its errors are told anew by their kind, never by their English text where they have a kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import orjson
import typer
import typer.rich_utils
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException
from typer.models import CommandFunctionType

from normalizer import __version__
from normalizer.errors import Misconfigured, NormalizerError, TransientError
from normalizer.observability.logs import configure_logging
from normalizer.settings import expected

if TYPE_CHECKING:
    from rich.console import RenderableType
    from typer.core import TyperOption

    from normalizer.runtime import Producer

OPTIONS, SUBCOMMAND = "[OPÇÕES]", "COMANDO [ARGUMENTOS]..."
_HELP: Final = {
    "help": "Mostra esta ajuda e sai.",
    "install_completion": "Instala o completamento (Tab) neste shell.",
    "show_completion": "Mostra o completamento deste shell, para copiar ou adaptar.",
}
_QUOTED: Final = re.compile(r"'([^']*)'")
_EXTRA: Final = re.compile(r"\((.*)\)")

_panels: Any = typer.rich_utils
_panels.ARGUMENTS_PANEL_TITLE = "Argumentos"
_panels.OPTIONS_PANEL_TITLE = "Opções"
_panels.COMMANDS_PANEL_TITLE = "Comandos"
_panels.DEFAULT_STRING = "[padrão: {}]"
_panels.REQUIRED_LONG_STRING = "[obrigatório]"


class _Portuguese:
    """What a command and a command of commands say of themselves."""

    def get_usage(self, ctx: Any) -> str:
        """The usage line."""
        line: str = super().get_usage(ctx)  # type: ignore[misc] # beside a class of Typer's
        return line.replace("Usage:", "Uso:", 1)

    def get_help_option(self, ctx: Any) -> TyperOption | None:
        """`--help`."""
        option: TyperOption | None = _translated(super().get_help_option(ctx))  # type: ignore[misc]
        return option

    def get_params(self, ctx: Any) -> list[Any]:
        """Parameters, those of the shell completion among them."""
        return [_translated(param) for param in super().get_params(ctx)]  # type: ignore[misc]


class Command(_Portuguese, TyperCommand):
    """A command whose help is in Portuguese."""


class Group(_Portuguese, TyperGroup):
    """A command of commands whose help is in Portuguese."""


def slip(error: Any) -> str:
    """One sentence for a usage error of Typer's, whatever class of its this version has."""
    tell = _TOLD.get(type(error).__name__)
    return tell(error) if tell is not None else _by_its_words(error)


def usage(error: Any) -> str:
    """How the command is called and where its help is; empty when it is not known which command was meant."""
    ctx = getattr(error, "ctx", None)
    return "" if ctx is None else f"{ctx.get_usage()}\nAjuda: {ctx.command_path} --help"


def _translated(param: Any) -> Any:
    if param is not None and param.name in _HELP:
        param.help = _HELP[param.name]
    return param


def _missing(error: Any) -> str:
    if error.param is None:
        return "Falta um argumento."
    what = "a opção" if error.param.param_type_name == "option" else "o argumento"
    return f"Falta {what} {error.param.get_error_hint()}."


def _unknown_option(error: Any) -> str:
    near = ", ".join(sorted(error.possibilities or ()))
    return f"A opção {error.option_name} não existe." + (f" Quis dizer {near}?" if near else "")


def _bad_value(error: Any) -> str:
    cause, message = error.__cause__, error.message
    if isinstance(cause, ValidationError):
        first = cause.errors()[0]
        message = f"{expected(first['type'], first.get('ctx') or {})}; encontrado {str(first['input'])[:40]!r}."
    hint = error.param_hint or (error.param.get_error_hint() if error.param is not None else None)
    return f"{hint}: {message}" if hint else message


def _bad_usage(error: Any) -> str:
    if "does not take" in error.message:
        return f"A opção {error.option_name} não leva valor."
    return f"A opção {error.option_name} pede um valor."


_TOLD: Final = {
    "MissingParameter": _missing,
    "NoSuchOption": _unknown_option,
    "BadParameter": _bad_value,
    "BadOptionUsage": _bad_usage,
}


def _by_its_words(error: Any) -> str:
    message = str(error.message)
    quoted = _QUOTED.findall(message)
    if message.startswith("No such command") and quoted:
        near = f" Quis dizer {', '.join(quoted[1:])}?" if quoted[1:] else ""
        return f"O comando {quoted[0]} não existe.{near}"
    if message.startswith("Missing command"):
        return "Falta o comando."
    if (
        extra := _EXTRA.search(message.removeprefix("Got unexpected extra argument(s)"))
    ) and "extra argument" in message:
        return f"Argumentos a mais: {extra[1]}."
    return "Uso errado do comando."


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


def commands_of(name: str, about: str) -> partial[Callable[[CommandFunctionType], CommandFunctionType]]:
    """What registers the commands of a command."""
    group = typer.Typer(
        cls=Group, no_args_is_help=True, options_metavar=OPTIONS, subcommand_metavar=SUBCOMMAND, help=about
    )
    app.add_typer(group, name=name)
    return partial(group.command, cls=Command, options_metavar=OPTIONS)


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
        sys.exit(app(prog_name="normalizer", standalone_mode=False) or OK)  # whatever started it
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
