"""The bounds a reading process sets itself: memory, time, files, processes and connections."""

from __future__ import annotations

import codecs
import ctypes
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from normalizer.imports.spreadsheet.limits import Limits

#: How a reading process ends that wanted more memory than it was allowed.
OUT_OF_MEMORY: Final = 3

_trim: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)
_CODECS: Final = ("utf-8-sig", "utf-16", "utf-32", "cp1252", "cp850", "mac_roman", "latin-1", "utf-16-le", "utf-16-be")


def confine(file_bytes: int, limits: Limits) -> None:
    """No more of anything than reading a file of this size takes. What is needed later is loaded now."""
    for name in _CODECS:
        codecs.lookup(name)
    allow_memory(limits.memory_for(file_bytes))
    seconds = limits.cpu_s_for(file_bytes)
    for what, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (most, most))
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, free + 1))  # calamine opens the file anew


def allow_memory(more: int) -> None:
    """That many bytes above what the process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    now = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, resource.RLIM_INFINITY))


def give_back() -> None:
    """Let the system have what was freed in pieces; only glibc keeps it."""
    if _trim is not None:
        _trim(0)


def allow_no_descriptor() -> None:
    """A socket is a descriptor as a file is: from here on neither can be had, and what is open stays open."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
