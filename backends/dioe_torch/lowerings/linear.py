"""Products of matrices."""

from __future__ import annotations

from typing import Any, Callable, Iterable

import torch

from .core import Compute, Node, Unsupported, lowers

EXACT_TERMS = (1 << 24) // (255 * 255)
"""So many products of 8-bit numbers add up exactly in float32."""


@lowers("MatMul")
def _matmul(node: Node) -> Compute:
    def compute(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if a.dtype.is_floating_point:
            return torch.matmul(a, b)
        return _whole(torch.matmul, a, b)

    return compute


def _whole(product: Callable[..., torch.Tensor], *operands: torch.Tensor) -> torch.Tensor:
    """A product of whole numbers: torch has it on the CPU only and not in every width; in int64 it
    wraps around to the same bits as in any narrower or unsigned type."""
    first = operands[0]
    result = product(*[operand.to("cpu", torch.int64) for operand in operands])
    return result.to(first.device, first.dtype)


@lowers("Gemm")
def _gemm(node: Node) -> Compute:
    alpha, beta = float(node.attr("alpha", 1.0)), float(node.attr("beta", 1.0))
    flip_a, flip_b = node.flag("transA"), node.flag("transB")

    def product(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        if c is not None:
            return torch.addmm(c, a, b, beta=beta, alpha=alpha)
        return torch.mm(a, b) if alpha == 1 else torch.mm(a, b) * alpha

    def whole(a: torch.Tensor, b: torch.Tensor, *c: torch.Tensor) -> torch.Tensor:
        if alpha.is_integer() and beta.is_integer():
            total = torch.mm(a, b) * int(alpha)
            return total + c[0] * int(beta) if c else total
        return product(*[each.double() for each in (a, b, *c)]).to(torch.int64)

    def compute(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        a = a.t() if flip_a else a
        b = b.t() if flip_b else b
        if a.dtype.is_floating_point:
            return product(a, b, c)
        return _whole(whole, a, b) if c is None else _whole(whole, a, b, c)

    return compute


@lowers("Einsum")
def _einsum(node: Node) -> Compute:
    equation = _explicit(node.attr("equation").replace(" ", ""))

    def product(*operands: torch.Tensor) -> torch.Tensor:
        return torch.einsum(equation, *operands)

    def compute(*operands: torch.Tensor) -> torch.Tensor:
        if operands[0].dtype.is_floating_point:
            return product(*operands)
        return _whole(product, *operands)

    return compute


def _explicit(equation: str) -> str:
    """An equation with its output: what is implied is the ellipsis, then every letter that stands
    there once, in the order of ASCII."""
    if "->" in equation:
        return equation
    letters = equation.replace("...", "").replace(",", "")
    once = sorted(letter for letter in set(letters) if letters.count(letter) == 1)
    return equation + "->" + ("..." if "..." in equation else "") + "".join(once)


@lowers("Det", lowered=False)
def _det(node: Node) -> Compute:
    def compute(x: torch.Tensor) -> torch.Tensor:
        if x.dtype in (torch.float16, torch.bfloat16):
            return torch.det(x.float()).to(x.dtype)
        return torch.det(x)

    return compute


# --- quantised ---------------------------------------------------------------------------------


@lowers("MatMulInteger", lowered=False)
def _matmul_integer(node: Node) -> Compute:
    node.once(_columns_shifted, 1, 3)

    def compute(
        a: torch.Tensor,
        b: torch.Tensor,
        a_zero: torch.Tensor | None = None,
        b_zero: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return exact_matmul(_shifted(a, _rows(a, a_zero)), _columns_shifted(b, b_zero))

    return compute


@lowers("QLinearMatMul", since=10, lowered=False)
def _qlinear_matmul(node: Node) -> Compute:
    node.once(_columns_shifted, 3, 5)

    def compute(
        a: torch.Tensor,
        a_scale: torch.Tensor,
        a_zero: torch.Tensor,
        b: torch.Tensor,
        b_scale: torch.Tensor,
        b_zero: torch.Tensor | None,
        y_scale: torch.Tensor,
        y_zero: torch.Tensor,
    ) -> torch.Tensor:
        if a.dtype.is_floating_point:
            raise Unsupported("QLinearMatMul of float8")
        total = exact_matmul(_shifted(a, _rows(a, a_zero)), _columns_shifted(b, b_zero))
        scale = _rows(a, a_scale).float() * b_scale.float() / _rows(a, y_scale).float()
        return requantized(total, scale, _rows(a, y_zero))

    return compute


def _rows(a: torch.Tensor, each: torch.Tensor | None) -> Any:
    """A scale or zero point of every row of ``a``, to go with its last two dimensions."""
    if each is None or each.dim() != 1 or each.shape[0] == 1 or a.dim() < 2:
        return each
    return each.unsqueeze(-1)


def _shifted(x: torch.Tensor, zero: torch.Tensor | None) -> torch.Tensor:
    """8-bit numbers less their zero point, as float32, which is exact."""
    return x.float() if zero is None else x.float() - zero.float()


def _columns_shifted(b: torch.Tensor, zero: torch.Tensor | None) -> torch.Tensor:
    """The right operand less its zero point; what was prepared while linking stays as it is."""
    return b if b.dtype == torch.float32 else _shifted(b, zero)


def exact_matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product, in int32, of whole numbers up to 255 in float32: in parts that are exact."""
    terms = a.shape[-1]
    if terms <= EXACT_TERMS:
        return torch.matmul(a, b).to(torch.int32)
    axis = 0 if b.dim() == 1 else -2
    parts = zip(torch.split(a, EXACT_TERMS, -1), torch.split(b, EXACT_TERMS, axis))
    return sum_of(torch.matmul(left, right).to(torch.int32) for left, right in parts)


def sum_of(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """The sum of one tensor or more."""
    first, *others = parts
    for part in others:
        first = first + part
    return first


def requantized(total: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
    """Sums of products as quantised numbers of the zero point's type."""
    limits = torch.iinfo(zero.dtype)
    rounded = torch.round(total.float() * scale) + zero.float()
    return torch.clamp(rounded, limits.min, limits.max).to(zero.dtype)
