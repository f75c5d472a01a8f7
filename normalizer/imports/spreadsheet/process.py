"""The reading process as the program sees it: started for one file, asked for rows, ended with it or by force.

What parses a file of somebody else's making is native code, and slow or hungry files are made on purpose. So it runs in
a child with bounds on memory, processor time and descriptors, without our environment: what goes wrong there ends a
process that holds nothing of ours.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from normalizer.errors import InvalidInput, Misconfigured, NormalizerError
from normalizer.imports.spreadsheet.child import LENGTH, Kind
from normalizer.imports.spreadsheet.limits import OUT_OF_MEMORY, megabytes, refusal
from normalizer.imports.spreadsheet.table import BrokenRow, Doubt, NumberedRows, Opened, Table, Unreadable

if TYPE_CHECKING:
    from normalizer.imports.spreadsheet.limits import Limits
    from normalizer.imports.spreadsheet.vocabulary import Vocabulary

_HERE: Final = Path(__file__).parent
_PACKAGES: Final = {
    "normalizer": str(_HERE.parents[1]),
    "normalizer.imports": str(_HERE.parent),
    "normalizer.imports.spreadsheet": str(_HERE),
}
# The packages without their `__init__`, which would bring the whole program into the child.
_START: Final = f"""
import sys, types
for name, path in {_PACKAGES}.items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from normalizer.imports.spreadsheet.child import main
main()
"""
_NOT_STARTED: Final = 1  # Python's own, after a traceback
_FRAME_BYTES: Final = 64 * 2**20
_PATIENCE: Final = 4  # wall time to processor time: a loaded machine


def open_in_child(kind: Kind, file: BinaryIO, where: str, limits: Limits, vocabulary: Vocabulary) -> Opened:
    """Open a file of a known kind. Raises InvalidInput. `file` is a real one, and may be closed afterwards."""
    reader = _Reader(kind, file, where, limits, vocabulary)
    form, sheets = reader.opened()
    tables = [Table(name, partial(reader.rows, at), visible) for at, (name, visible) in enumerate(sheets)]
    return Opened(form, tables, reader.doubts, reader.close, reader.rest)


class _OutOfMemory(InvalidInput):
    """What the file asks for is more than its reading process may have."""


class _Reader:
    """The child that holds the file. It ends with this object, or when told to.

    A workbook that cannot be laid out because of a few cells far away is read once more without them: that takes a look
    at every cell, which others are spared.
    """

    def __init__(self, kind: Kind, file: BinaryIO, where: str, limits: Limits, vocabulary: Vocabulary) -> None:
        self._kind, self._where, self._limits, self._vocabulary = kind, where, limits, vocabulary
        self._is_late = self._is_closed = self._is_compact = self._is_resting = False
        self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self._patience_s = _PATIENCE * limits.cpu_s_for(os.fstat(self._descriptor).st_size)
        self.doubts: list[Doubt] = []
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-c", _START, str(self._descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it holds nothing an operator could use: stack traces of the native reader
            pass_fds=(self._descriptor,),
            env={},
            bufsize=0,
        )
        weakref.finalize(self, _end, self._process)
        remembered = {scope: dict(meanings) for scope, meanings in self._vocabulary.remembered.items()}
        self._send([self._kind, asdict(self._limits), [dict(self._vocabulary.said), remembered], self._is_compact])

    def close(self) -> None:
        """End the child; readers that wait for it are told so."""
        self._is_closed = True
        self._process.kill()

    def rest(self) -> None:
        """End the child until rows are asked for again."""
        self._is_resting = True
        self._process.kill()
        self._process.wait()

    def opened(self) -> tuple[str, list[tuple[str, bool]]]:
        """Return the format, and each sheet's name and whether it is visible."""
        try:
            form, sheets, doubts = self._answer()
        except _OutOfMemory:
            self._begin_compact()
            return self.opened()
        self.doubts[:] = [Doubt(*one) for one in doubts]
        return form, sheets

    def rows(self, sheet: int) -> NumberedRows:
        again = True
        while chunk := self._chunk(sheet, again=again):
            again = False
            numbers, rows, cells, broken = chunk
            for (row, column), flaw in cells.items():
                rows[row][column] = Unreadable(*flaw)
            for row, words in broken.items():
                rows[row] = BrokenRow(rows[row], *words)
            yield from zip(numbers, rows, strict=True)

    def _chunk(self, sheet: int, *, again: bool) -> Any:
        if self._is_resting and again and not self._is_closed:
            self._is_resting = False
            self._start()
            self.opened()
        try:
            self._send([sheet, again])
            return self._answer()
        except _OutOfMemory:
            if not again:
                raise
            self._begin_compact()
            self.opened()
            return self._chunk(sheet, again=True)

    def _begin_compact(self) -> None:
        """Start anew without far cells. Raises what is being handled where that was done or is of no use."""
        if self._is_compact or self._kind not in {"zip", "ole"}:
            raise  # noqa: PLE0704
        self._is_compact = True
        self._start()

    def _send(self, message: Any) -> None:
        body = marshal.dumps(message)
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # the child is gone, and has nothing to say
                self._process.stdin.write(LENGTH.pack(len(body)) + body)

    def _answer(self) -> Any:
        until = time.monotonic() + self._patience_s
        head = self._receive(LENGTH.size, until)
        length = LENGTH.unpack(head)[0]
        if length > _FRAME_BYTES:
            raise self._refusal()
        kind, answer = marshal.loads(self._receive(length, until))  # noqa: S302 — our own child's
        if kind == "refused":
            expected, found, fix, inside = answer
            raise refusal(expected, found, fix, self._where + inside)
        return answer

    def _receive(self, size: int, until: float) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 — it was opened with a pipe
        descriptor = self._process.stdout.fileno()
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        received = bytearray()
        while len(received) < size:
            if not waiting.poll(max(0, until - time.monotonic()) * 1_000):
                self._is_late = True
                raise self._refusal()
            piece = os.read(descriptor, size - len(received))
            if not piece:
                raise self._refusal()
            received += piece
        return bytes(received)

    def _refusal(self) -> NormalizerError:
        """The error for a child that is gone: out of one of its bounds, ended by the file's damage, or by us."""
        if self._is_closed:
            fix = "Importe a planilha de novo."
            return refusal("uma leitura até o fim", "uma leitura interrompida", fix, self._where)
        self._process.kill()
        ended = self._process.wait()
        if ended == _NOT_STARTED:
            fix = "Instale-o de novo com tudo o que ele usa (pip install -c constraints.txt -e .)."
            return Misconfigured("O leitor de planilhas não começou: falta um pacote (lxml, python-calamine).", fix=fix)
        error = InvalidInput
        expected, found = "uma planilha íntegra", "um arquivo cortado ou danificado"
        if self._is_late or ended == -signal.SIGXCPU:
            expected = f"uma planilha que se leia em {self._patience_s // _PATIENCE} s"
            found = "uma que não acaba de ser lida"
        elif ended in {-signal.SIGABRT, OUT_OF_MEMORY}:
            error = _OutOfMemory
            expected = f"no máximo {megabytes(self._limits.reader_bytes)} de memória"
            found = "um arquivo danificado, ou que pede mais do que isso (células soltas muito longe da tabela?)"
        return error(where=self._where, expected=expected, found=found, fix=_FIX)


_FIX: Final = (
    "Copie as linhas para uma planilha nova (se forem muitas, para várias), salve como .xlsx e importe de novo."
)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
