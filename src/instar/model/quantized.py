"""Linear layers whose weights are whole numbers of 8 or 4 bits, with a scale for each group of a row.

Letters: N output channels, K input channels, G groups of a row.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..config import InputError
from .grid import Grid, whole
from .layers import Linear
from .products import Multiply, choose, lay, product_of, scales, unlaid


class QuantLinear(Linear):
    """x (..., K) -> (..., N), as Linear, of weights (q - z) s on a grid.

    packed: q, int8 (N, K), or of 4 bits uint8 (N, K/2); scale (N, G); zero int8 (N, G), or None where symmetric. None
    of them is a parameter: an optimizer sees the bias alone. `settle` picks a product for one row, for few and for
    many; `laid` says that the weights then lie as int4pack wants them.
    """

    packed: Tensor
    scale: Tensor
    zero: Tensor | None

    def __init__(self, rows: int, columns: int, grid: Grid, bias: nn.Parameter | None = None) -> None:
        """Without weights, which `fill` brings."""
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.grid = columns, rows, grid
        self.register_parameter("bias", bias)
        for name in ("packed", "scale", "zero"):
            self.register_buffer(name, None, persistent=False)
        self.kernels: tuple[str, ...] | None = None
        self.measured: torch.dtype | None = None
        self.laid = False

    @torch.no_grad()
    def fill(self, packed: Tensor, scale: Tensor, zero: Tensor | None = None) -> None:
        """packed int8 (N, K), or of 4 bits uint8 (N, K/2) as `halved` makes them; scale (N, G); zero int8 (N, G) where
        the grid is not symmetric."""
        self.packed = packed.contiguous()
        self.scale, self.zero = scale.contiguous(), None if zero is None else zero.contiguous()
        self.kernels, self.measured, self.laid = None, None, False

    @torch.no_grad()
    def settle(self, dtype: torch.dtype) -> None:
        """Take the fastest products for activations of this dtype. On a CPU alone is there a choice."""
        if self.packed.device.type != "cpu":
            return
        choice = choose(self.out_features, self.in_features, self.grid, dtype)
        if self.laid and not choice.laid:
            self.fill(*self.parts())
        elif choice.laid and not self.laid:
            self.packed, self.scale = lay(self.packed, self.scale, self.zero, dtype)
            self.zero, self.laid = None, True
        self.kernels, self.measured = choice.names, dtype

    def parts(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """packed, scale and zero, as `fill` takes them."""
        return unlaid(self.packed) if self.laid else self.packed, *scales(self)

    def values(self) -> Tensor:
        """q, int8 (N, K)."""
        packed, _, _ = self.parts()
        return packed if self.grid.bits == 8 else whole(packed)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """The weight (N, K) that is computed with, in the dtype of the scales."""
        _, scale, zero = self.parts()
        wide = self.values().to(torch.promote_types(scale.dtype, torch.float32)).unflatten(1, (scale.shape[1], -1))
        if zero is not None:
            wide = wide - zero[..., None]
        return (wide * scale[..., None]).flatten(1).to(scale.dtype)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """As Linear's, made anew each time; of a layer without weights, a tensor without values."""
        shape = (self.out_features, self.in_features)
        return torch.empty(shape, device="meta") if self.packed is None else self.dense()

    def product(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, self.in_features)
        # torch's kernels know no gradient, and a spread weight kept for one would take what quantising saved
        learnt = torch.is_grad_enabled() and x.requires_grad
        y = Multiply.apply(flat, self) if learnt else product_of(self, flat)
        y = y.view(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.grid}"


def quantized(model: nn.Module) -> Iterator[tuple[str, QuantLinear]]:
    """The quantised layers of a model, by name."""
    for name, module in model.named_modules():
        if isinstance(module, QuantLinear):
            yield name, module


def settle(model: nn.Module, dtype: torch.dtype) -> None:
    """Let every quantised layer take the fastest products for activations of this dtype."""
    for _, layer in quantized(model):
        layer.settle(dtype)


def kernels_of(model: nn.Module) -> list[dict[str, object]]:
    """Which products were chosen, shape by shape: rows and columns of the weight, layers, and a kernel for one row,
    few and many."""
    found: dict[tuple[int, int, tuple[str, ...]], int] = {}
    for _, layer in quantized(model):
        key = (layer.out_features, layer.in_features, layer.kernels or ())
        found[key] = found.get(key, 0) + 1
    return [
        {"out": out, "in": inner, "layers": count, "kernels": list(names)}
        for (out, inner, names), count in found.items()
    ]  # fmt: skip


def refuse_quantized(model: nn.Module, folder: object, doing: str) -> None:
    """Raise InputError for a model whose weights are whole numbers, where they are to be changed."""
    found = next(quantized(model), None)
    if found is not None:
        raise InputError(
            f"{folder} is quantised to {found[1].grid.bits} bits, and such weights cannot be changed; {doing} the "
            "model that it was made from, and quantise the result"
        )


def replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of the one with this name."""
    owner, _, own = name.rpartition(".")
    setattr(model.get_submodule(owner), own, layer)
