"""Where a program's values are while it runs: names to slots, constants to tensors."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import torch

from .core import Constant, Program, numbers_of, to_tensor

HOST = torch.device("cpu")


class Loaded:
    """Constants as tensors where they are wanted, each made once for a program and all of its
    sub-graphs."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._found: dict[tuple[Any, ...], torch.Tensor] = {}

    def tensor(
        self, constant: Constant, host: bool = False, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """``constant`` on the device, or on the host; in ``dtype`` if it is float32."""
        key = (
            id(constant.data),
            constant.dtype,
            host or self.device == HOST,
            dtype if constant.dtype == "float" else None,
        )
        found = self._found.get(key)
        if found is None:
            found = to_tensor(constant)
            found = found if key[3] is None else found.to(key[3])
            found = self._found[key] = found if key[2] else found.to(self.device)
        return found


class Slots:
    """Names to slots; what is known of each value: where it is, and in which reduced type."""

    def __init__(self, program: Program, loaded: Loaded) -> None:
        self.values: list[Any] = [None]
        self.reduced: dict[str, torch.dtype] = {}
        self.on_host: set[str] = set()
        self._loaded = loaded
        self._program = program
        self._slots: dict[str, int] = {"": 0}
        self._constants: dict[tuple[str, bool, torch.dtype | None], int] = {}

    def of(self, name: str) -> int:
        """The slot of a value that is made by an op or given."""
        if name not in self._slots:
            self._slots[name] = len(self.values)
            self.values.append(None)
        return self._slots[name]

    def is_constant(self, name: str) -> bool:
        """True if the value is a constant of the program."""
        return name in self._program.constants

    def operand(self, name: str, host: bool, dtype: torch.dtype | None = None) -> int:
        """The slot an operand is read from; constants are loaded where they are wanted, and in
        ``dtype`` where they are float32."""
        if not self.is_constant(name):
            return self.of(name)
        key = (name, host, dtype)
        if key not in self._constants:
            self._constants[key] = len(self.values)
            self.values.append(self._loaded.tensor(self._program.constants[name], host, dtype))
        return self._constants[key]

    def prepared(
        self, names: Sequence[str], make: Callable[..., Any], host: bool, dtype: torch.dtype | None
    ) -> int:
        """The slot of what ``make`` gives for constants (``""`` where one is missing)."""
        constants = [self._program.constants[name] if name else None for name in names]
        given = [c if c is None else self._loaded.tensor(c, host, dtype) for c in constants]
        with torch.no_grad():
            self.values.append(make(*given))
        return len(self.values) - 1

    def numbers(self, name: str) -> int:
        """The slot of a constant as a numpy array."""
        key = ("#" + name, True, None)
        if key not in self._constants:
            self._constants[key] = len(self.values)
            self.values.append(numbers_of(self._program.constants[name]))
        return self._constants[key]
