"""The one ``Runtime`` of a process: it owns the backends and their device contexts."""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import ClassVar

from dioe.registry import Registry
from dioe.types import Context, DioeError, Resources, Target

log = logging.getLogger(__name__)


class Runtime:
    """Device contexts by backend, device and resources, shared by all sessions of the process.

    A context is opened by the first that needs it and closed when the last has given it back.
    """

    _current: ClassVar[Runtime | None] = None
    _current_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, registry: Registry | None = None) -> None:
        self.registry = registry or Registry()
        self._lock = threading.Lock()
        self._contexts: dict[tuple[str, str, Resources], tuple[Context, int]] = {}

    @classmethod
    def current(cls) -> Runtime:
        """The process's runtime, made on first use and closed at exit."""
        with cls._current_lock:
            if cls._current is None:
                cls._current = cls()
                atexit.register(cls._current.close)
            return cls._current

    @contextlib.contextmanager
    def context(self, target: Target, resources: Resources) -> Iterator[Context]:
        """A context for ``target`` during the ``with`` block."""
        held = self.acquire(target, resources)
        try:
            yield held
        finally:
            self.release(target, resources)

    def acquire(self, target: Target, resources: Resources) -> Context:
        """A context for ``target``; every call needs a ``release`` with the same arguments.

        Raises UnsupportedError if the device or the backend isn't usable.
        """
        key = (target.backend, target.device, resources)
        backend = self.registry.backend(target.backend)
        local_id = self.registry.placement(target.device).backends.get(target.backend)
        if local_id is None:
            local_id = target.device
        with self._lock:
            context, users = self._contexts.get(key, (None, 0))
            if context is None:
                context = backend.open(local_id, resources)
            self._contexts[key] = (context, users + 1)
            return context

    def release(self, target: Target, resources: Resources) -> None:
        """Give a context back; the last user closes it."""
        key = (target.backend, target.device, resources)
        with self._lock:
            if key not in self._contexts:
                return  # the runtime was closed before its user
            context, users = self._contexts[key]
            if users > 1:
                self._contexts[key] = (context, users - 1)
                return
            del self._contexts[key]
        context.close()

    def close(self) -> None:
        """Close every context, whoever still holds one."""
        with self._lock:
            contexts = [context for context, _ in self._contexts.values()]
            self._contexts.clear()
        for context in contexts:
            try:
                context.close()
            except DioeError as error:
                log.warning("closing a context: %s", error)
