"""Builds the extension with the machine's C++ compiler, once, and keeps it.

``torch.utils.cpp_extension`` would need ninja, setuptools and Python's headers, and its lock
file outlives a process that is killed. Two calls of the compiler need none of these.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

CACHE_VARIABLE = "DIOE_SIMULATED_CACHE"
"""Environment variable that names the directory where the built extension is kept."""

_SOURCES = ("device.cpp", "operators.cpp")
_HEADERS = ("copies.h", "generators.h", "memory.h", "streams.h")
_FLAGS = ("-std=c++20", "-O1", "-g0", "-fPIC", "-Wall", "-Wextra", "-Wno-unused-parameter")
_TIMEOUT_S = 600.0


class BuildError(RuntimeError):
    """The simulated device can't be built or loaded here; says why."""


def reason_unavailable() -> str | None:
    """Why ``load()`` can't work on this machine, or None. Builds nothing."""
    if sys.platform != "linux":
        return f"the simulated device is built on Linux only, not on {sys.platform}"
    if not hasattr(torch, "accelerator") or not hasattr(torch.accelerator, "get_memory_info"):
        return f"the simulated device needs torch 2.10 or later; this is {torch.__version__}"
    if not (_torch_dir() / "include" / "ATen" / "EmptyTensor.h").is_file():
        return f"this torch comes without its C++ headers: {_torch_dir() / 'include'}"
    if _compiler() is None:
        wanted = os.environ.get("CXX")
        return f"no C++ compiler: {wanted or 'g++, clang++ or c++'} is not on PATH"
    return None


def library(cache: Path | None = None) -> Path:
    """The built extension, building it if it isn't there (seconds); safe in parallel processes.

    cache: where it is kept; the default is ``DIOE_SIMULATED_CACHE`` or a directory of the user's
    cache. Raises BuildError with the reason, the compiler's words included.
    """
    reason = reason_unavailable()
    if reason is not None:
        raise BuildError(reason)
    directory = _own_directory(cache or _default_cache())
    built = directory / f"simulated-{_key()}.so"
    if not built.exists():
        with _locked(directory / "lock"):
            if not built.exists():  # another process may have built it meanwhile
                _build(built)
    return built


def _torch_dir() -> Path:
    return Path(torch.__file__).parent


def _compiler() -> str | None:
    wanted = os.environ.get("CXX")
    names = (wanted,) if wanted else ("g++", "clang++", "c++")
    return next((path for path in map(shutil.which, names) if path is not None), None)


def _default_cache() -> Path:
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "dioe" / "simulated-device"


def _own_directory(directory: Path) -> Path:
    """The directory, made if need be; refused if others could put code there for us to load."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as error:
        raise BuildError(
            f"no place to keep the simulated device: {error}; "
            f"let {CACHE_VARIABLE} name a directory of yours"
        ) from error
    if found.st_uid != os.getuid() or found.st_mode & stat.S_IWOTH:
        raise BuildError(
            f"{directory} belongs to another user or can be written to by any: the simulated "
            f"device is not loaded from there; let {CACHE_VARIABLE} name a directory of yours"
        )
    return directory


def _key() -> str:
    """What the built file depends on, as a short name."""
    digest = hashlib.sha256()
    digest.update(repr((torch.__version__, sys.version_info[:2], _FLAGS)).encode())
    for name in sorted(_SOURCES + _HEADERS):
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among processes. The kernel ends the lock with its owner, however that one ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(target: Path) -> None:
    """Compile the sources side by side and link them; the file appears complete or not at all."""
    compiler = _compiler()
    assert compiler is not None  # reason_unavailable() has looked
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:

        def compiled(source: str) -> str:
            output = str(Path(scratch) / f"{source}.o")
            include = str(_torch_dir() / "include")
            _run([compiler, *_FLAGS, "-isystem", include, "-c", str(here / source), "-o", output])
            return output

        with ThreadPoolExecutor() as pool:
            objects = list(pool.map(compiled, _SOURCES))
        linked = Path(scratch) / target.name
        libraries = ["-L", str(_torch_dir() / "lib"), "-ltorch_cpu", "-lc10"]
        _run([compiler, "-shared", *objects, *libraries, "-o", str(linked)])
        linked.replace(target)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"the compiler did not run: {error}") from error
    if done.returncode:
        raise BuildError(
            f"building the simulated device failed:\n{' '.join(command)}\n{done.stderr[-4000:]}"
        )
