"""MongoDB's wire protocol over `commands`: OP_MSG, and OP_QUERY for a driver's first `hello`.

One event loop, one command at a time. Nothing is compressed and nobody logs in.
"""

from __future__ import annotations

import asyncio
import gc
import struct
from dataclasses import dataclass
from typing import Final

import bson

from benchmarks.sink.commands import Store
from benchmarks.sink.paths import Document

_HEADER: Final = struct.Struct("<iiii")
_INT: Final = struct.Struct("<i")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_CHECKSUM, _MORE_TO_COME = 1, 2


@dataclass(slots=True)
class Pace:
    """How slow the store shall seem: a round trip's latency, and updates it can take a second (0 = as they come)."""

    latency_s: float = 0.0
    updates_per_s: float = 0.0
    _busy_until: float = 0.0

    def due(self, now: float, updates: int) -> float:
        """When the reply to a command with so many updates may leave. Updates queue up behind one another."""
        if self.updates_per_s and updates:
            self._busy_until = max(now, self._busy_until) + updates / self.updates_per_s
            now = self._busy_until
        return now + self.latency_s


class Connection(asyncio.Protocol):
    """One client. Requests are answered in order, each with one reply (none where none is wanted)."""

    def __init__(self, store: Store, pace: Pace) -> None:
        self._store, self._pace = store, pace
        self._received = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole by now."""
        self._received += data
        while len(self._received) >= _HEADER.size:
            length, request, _, opcode = _HEADER.unpack_from(self._received)
            if len(self._received) < length:
                return
            message = bytes(self._received[_HEADER.size : length])
            del self._received[:length]
            self._serve(request, opcode, message)

    def _serve(self, request: int, opcode: int, message: bytes) -> None:
        if opcode == _OP_QUERY:
            self._transport.write(_reply_to_query(request, self._store.answer(_query_of(message))))
            return
        if opcode != _OP_MSG:
            self._transport.close()
            return
        flags, command = _command_of(message)
        self._store.received[next(iter(command))] += len(message)
        reply = self._store.answer(command)
        if flags & _MORE_TO_COME:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = self._pace.due(now, len(command.get("updates", ())))
        answer = message_of(reply, response_to=request)
        if due <= now:
            self._transport.write(answer)
        else:
            loop.call_at(due, self._transport.write, answer)


def message_of(document: Document, *, request: int = 0, response_to: int = 0) -> bytes:
    """One OP_MSG that carries a document."""
    body = bson.encode(document)
    return _HEADER.pack(_HEADER.size + 5 + len(body), request, response_to, _OP_MSG) + b"\0\0\0\0\0" + body


def _command_of(message: bytes) -> tuple[int, Document]:
    """Flags and command; its document sequences (the rows of a bulk) stand under their names."""
    flags = _INT.unpack_from(message)[0]
    end = len(message) - (4 if flags & _CHECKSUM else 0)
    command: Document = {}
    sequences: Document = {}
    at = _INT.size
    while at < end:
        kind, at = message[at], at + 1
        length = _INT.unpack_from(message, at)[0]
        section = message[at : at + length]
        if kind == 0:
            command = bson.decode(section)
        else:
            name, _, documents = section[_INT.size :].partition(b"\0")
            sequences[name.decode()] = bson.decode_all(documents)
        at += length
    return flags, command | sequences


def _query_of(message: bytes) -> Document:
    """The command in an OP_QUERY on `$cmd`: flags, a name that ends in 0, two numbers, the document."""
    name, _, rest = message[_INT.size :].partition(b"\0")
    return {**bson.decode(rest[2 * _INT.size :]), "$db": name.decode().partition(".")[0]}


def _reply_to_query(request: int, reply: Document) -> bytes:
    body = bson.encode(reply)
    length = _HEADER.size + 20 + len(body)
    return _HEADER.pack(length, 0, request, _OP_REPLY) + struct.pack("<iqii", 8, 0, 0, 1) + body


async def serve(host: str, port: int, pace: Pace) -> None:
    """Serve until cancelled."""
    gc.disable()  # nothing here makes cycles, and a million documents are no garbage to look through
    store = Store()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(store, pace), host, port)
    async with server:
        await server.serve_forever()
