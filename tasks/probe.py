"""Linear probing: how well classes are told apart by a linear function of frozen features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def logistic_regression(
    features: Tensor, labels: Tensor, classes: int, penalty: float = 1e-3, iterations: int = 200
) -> nn.Linear:
    """Multinomial logistic regression: the weights that minimise the mean cross-entropy plus `penalty / 2 |W|^2`.

    By L-BFGS on all instances at once (the problem is convex), from zero, until the gradient vanishes or `iterations` are over.
    The bias is not penalised. Deterministic. Shapes: features (N, D), labels (N,) in 0..classes-1.

    >>> x = torch.tensor([[-1.0], [1.0]])
    >>> logistic_regression(x, torch.tensor([0, 1]), 2)(x).argmax(1)
    tensor([0, 1])
    """
    model = nn.Linear(features.shape[1], classes, device=features.device, dtype=features.dtype)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=iterations, tolerance_grad=1e-5, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(features), labels) + penalty / 2 * model.weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return model.requires_grad_(False)


def linear_accuracy(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int) -> float:
    """The share of test instances that a logistic regression of the training features puts into their class.

    Features (N, D) are standardised by the mean and the deviation of the training features; a constant one stays constant.
    """
    (features, labels), (unseen, truth) = train, test
    mean, deviation = features.mean(0), features.std(0)
    scale = torch.where(deviation > 0, deviation, 1)
    model = logistic_regression((features - mean) / scale, labels, classes)
    return (model((unseen - mean) / scale).argmax(1) == truth).double().mean().item()
