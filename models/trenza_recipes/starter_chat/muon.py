"""The optimiser Muon: momentum whose steps are made orthogonal, for the matrices inside the network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest (roughly) orthogonal matrices to a stack of matrices, by Newton-Schulz iteration."""
    first, second, third = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    turned = matrices.mT if tall else matrices
    turned = turned / (turned.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        squared = turned @ turned.mT
        turned = first * turned + (second * squared + third * squared @ squared) @ turned
    return turned.mT if tall else turned


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with orthogonal steps and decoupled weight decay; parameters must be matrices."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move every matrix by one step; `closure` is there for the interface and not called."""
        for group in self.param_groups:
            stacks: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                stacks[weight.shape].append((weight, weight.grad.lerp(state["momentum"], group["momentum"])))
            for shape, members in stacks.items():
                steps = orthogonal(torch.stack([direction for _, direction in members]))
                scale = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for (weight, _), direction in zip(members, steps, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-scale)
