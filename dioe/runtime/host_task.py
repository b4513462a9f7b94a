"""Python callables as nodes of pipelines: what they take, and what they gave."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dioe.types import InputError, Value

SINGLE = "out"
"""The name of what a callable gives that gives no mapping."""

_COPY_FIRST = (
    "inputs of callables are read-only, for others may hold them too: copy before writing, "
    "as in x = x.copy()"
)

_Kind = inspect.Parameter


@dataclass(frozen=True, slots=True)
class Task:
    """A callable, and its parameters that values may be given to.

    ``required`` have no default; with ``takes_any`` (``**values``) other names are taken as well.
    """

    name: str
    call: Callable[..., Any]
    parameters: tuple[str, ...]
    required: tuple[str, ...]
    takes_any: bool

    @classmethod
    def of(cls, name: str, call: Callable[..., Any]) -> Task:
        """Look at a callable's signature; raises InputError where values can't be given by name."""
        place = f"node {name!r}"
        if inspect.iscoroutinefunction(call):
            raise InputError(
                "the callable is a coroutine function",
                place=place,
                fix="give an ordinary one, such as lambda x: asyncio.run(work(x))",
            )
        try:
            found = inspect.signature(call).parameters.values()
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the parameters of {call!r} can't be told: {error}",
                place=place,
                fix="wrap it in a function with named parameters: def task(x): ...",
            ) from None
        required: list[str] = []
        for each in found:
            if each.default is not _Kind.empty or each.kind in (
                _Kind.VAR_KEYWORD, _Kind.VAR_POSITIONAL
            ):  # fmt: skip
                continue
            if each.kind is _Kind.POSITIONAL_ONLY:
                raise InputError(
                    f"parameter {each.name!r} can't be given by its name",
                    place=place,
                    fix="wrap it in a function with named parameters: def task(x): ...",
                )
            required.append(each.name)
        named = (_Kind.POSITIONAL_OR_KEYWORD, _Kind.KEYWORD_ONLY)
        return cls(
            name,
            call,
            tuple(each.name for each in found if each.kind in named),
            tuple(required),
            any(each.kind is _Kind.VAR_KEYWORD for each in found),
        )

    def run(self, arguments: Mapping[str, Any]) -> dict[str, Value]:
        """What the callable gives for these arguments, by name.

        It sees arrays through views that it can't write into: others hold them too. What it raises
        is passed on with a note that names the node; InputError if what it gives isn't a value.
        """
        try:
            given = self.call(**{name: _shown(value) for name, value in arguments.items()})
        except BaseException as error:
            error.add_note(f"in node {self.name!r} of the pipeline")
            if isinstance(error, ValueError) and "read-only" in str(error):
                error.add_note(_COPY_FIRST)
            raise
        return self._named(given)

    def _named(self, given: Any) -> dict[str, Value]:
        place = f"node {self.name!r}"
        if inspect.isawaitable(given) or inspect.isgenerator(given):
            if inspect.iscoroutine(given) or inspect.isgenerator(given):
                given.close()
            raise InputError(
                f"the callable gave a {type(given).__name__}",
                place=place,
                fix="give values: a mapping of output names to them, or one alone",
            )
        if not isinstance(given, Mapping):
            return {SINGLE: given}
        for name in given:
            if not isinstance(name, str) or not name:
                raise InputError(
                    f"the callable named an output {name!r}",
                    place=place,
                    fix="return a mapping of output names to values, or one value alone",
                )
        return dict(given)


def _shown(value: Any) -> Any:
    if type(value) is not np.ndarray or not value.flags.writeable:
        return value
    view = value.view()
    view.flags.writeable = False
    return view
