"""The only `torch.autograd.Function`s of the package.

Three mechanisms cover all rules: `replace_gradient`, `finite_difference`, and score weights in plain autograd. Functions take
the oracle and its instance tensors side by side, so that `torch.func.vmap` can fold a mapped dimension of any of them into
the batch: mapping a layer is still one call of the solver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .oracle import Oracle


def _no_second_derivative(*_: Any) -> None:
    raise RuntimeError(
        "The second derivative of a finite difference of a solver is zero almost everywhere and says nothing, so it is "
        "refused. Take first derivatives only (no `create_graph=True`, no nested `torch.func.grad`), or choose a rule whose "
        "second derivative is defined: StraightThrough with a relaxation, Identity, DAB, or Perturbed."
    )


def _active() -> bool:
    """Whether a `torch.func` transform is running; then only a Function sees plain tensors."""
    return torch._C._are_functorch_transforms_active()


def _apply(function: type[torch.autograd.Function], *args: Any) -> Any:
    """`function.apply`; in plain eager mode without its binding of default arguments, which costs ten microseconds."""
    if _active() or torch.compiler.is_compiling():
        return function.apply(*args)
    return super(torch.autograd.Function, function).apply(*torch._functorch.utils.unwrap_dead_wrappers(args))


def _fold(info: Any, in_dims: tuple, oracle: Oracle, theta: Tensor, tensors: tuple[Tensor, ...]) -> tuple:
    """Move the mapped dimension into the batch.  # theta (*S, B, *E) per map index -> (*S, V*B, *E)"""
    size, axis = info.batch_size, theta.ndim - oracle.event_dim - (2 if in_dims[0] is not None else 1)
    moved = theta.movedim(in_dims[0], axis) if in_dims[0] is not None else theta.unsqueeze(axis)
    shape = list(moved.shape)
    shape[axis] = size
    folded = moved.expand(shape).flatten(axis, axis + 1)
    rest = tuple(
        (t.movedim(d, 0) if d is not None else t.expand(size, *t.shape)).flatten(0, 1) for t, d in zip(tensors, in_dims[1:])
    )
    return folded, rest, axis


class _Solve(torch.autograd.Function):
    """`argmax <theta, y>` with the mask of failed instances; no gradient."""

    @staticmethod
    def forward(oracle, theta, *tensors):
        y, failed = oracle.argmax(theta, tensors)
        if failed is None:
            failed = torch.zeros(theta.shape[-oracle.event_dim - 1], dtype=torch.bool, device=theta.device)
        return y, failed

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(*output)
        ctx.count = len(inputs)

    @staticmethod
    def backward(ctx, *_):
        return (None,) * ctx.count

    @staticmethod
    def jvp(ctx, *_):
        return None, None

    @staticmethod
    def vmap(info, in_dims, oracle, theta, *tensors):
        folded, rest, axis = _fold(info, in_dims[1:], oracle, theta, tensors)
        y, failed = _Solve.apply(oracle, folded, *rest)
        return (y.unflatten(axis, (info.batch_size, -1)), failed.unflatten(0, (info.batch_size, -1))), (axis, 0)


class _TracedReplaceGradient(torch.autograd.Function):
    """The value of one, the gradient of the other; without the forward mode, which `torch.compile` cannot trace."""

    generate_vmap_rule = True

    @staticmethod
    def forward(hard, soft):
        return hard.detach()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return None, grad


class _ReplaceGradient(_TracedReplaceGradient):
    @staticmethod
    def jvp(ctx, _, soft):
        return soft.clone()


class _FiniteDifference(torch.autograd.Function):
    """`argmax <theta, y>` with the pullback of the interpolated solver; see `finite_difference`."""

    @staticmethod
    def forward(oracle, step, theta, *tensors):
        return _Solve.forward(oracle, theta, *tensors)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.oracle, ctx.step, theta, *tensors = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(theta, output[0], *tensors)

    @staticmethod
    def backward(ctx, grad, _):
        theta, y, *tensors = ctx.saved_tensors
        out = _difference(ctx.oracle, ctx.step, theta, y, grad, tuple(tensors))
        return None, None, out, *(None,) * len(tensors)

    @staticmethod
    def vmap(info, in_dims, oracle, step, theta, *tensors):
        folded, rest, axis = _fold(info, in_dims[2:], oracle, theta, tensors)
        y, failed = _FiniteDifference.apply(oracle, step, folded, *rest)
        return (y.unflatten(axis, (info.batch_size, -1)), failed.unflatten(0, (info.batch_size, -1))), (axis, 0)


class _Difference(torch.autograd.Function):
    """The pullback itself, as a Function whose own derivative is refused, under every transform."""

    @staticmethod
    def forward(oracle, step, theta, y, grad, *tensors):
        return _shifted_difference(oracle, step, theta, y, grad, tensors)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    backward = staticmethod(_no_second_derivative)
    jvp = staticmethod(_no_second_derivative)

    @staticmethod
    def vmap(info, in_dims, oracle, step, theta, y, grad, *tensors):
        folded, rest, axis = _fold(info, (in_dims[2], *in_dims[5:]), oracle, theta, tensors)
        y, grad = (_fold(info, (d,), oracle, t, ())[0] for t, d in ((y, in_dims[3]), (grad, in_dims[4])))
        out = _Difference.apply(oracle, step, folded, y, grad, *rest)
        return out.unflatten(axis, (info.batch_size, -1)), axis


def _shifted_difference(oracle: Oracle, step: float, theta: Tensor, y: Tensor, grad: Tensor, tensors: tuple) -> Tensor:
    shifted, failed = oracle.argmax(torch.sub(theta, grad, alpha=step), tensors)
    out = (y - shifted).div_(step)
    if failed is not None:
        out.masked_fill_(oracle.expand(failed), 0)
    return out


def _difference(oracle: Oracle, step: float, theta: Tensor, y: Tensor, grad: Tensor, tensors: tuple) -> Tensor:
    if torch.is_grad_enabled() or _active():
        return _apply(_Difference, oracle, step, theta, y, grad, *tensors)
    return _shifted_difference(oracle, step, theta, y, grad, tensors)


def solve(oracle: Oracle, theta: Tensor) -> tuple[Tensor, Tensor | None]:
    """`argmax_y <theta, y>` and the mask of failed instances; no gradient.  # (*S, B, *E) -> (*S, B, *E), (B,)"""
    if _active():
        return _Solve.apply(oracle, theta, *oracle.tensors)
    with torch.no_grad():
        return oracle.argmax(theta.detach(), oracle.tensors)


def replace_gradient(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard`, bit for bit and sharing its memory, with the gradient of `soft`, of the same shape."""
    if hard.shape != soft.shape:
        raise ValueError(
            f"replace_gradient: the value has shape {tuple(hard.shape)} but its stand-in has shape {tuple(soft.shape)}; "
            f"a surrogate (relaxation or approximator) must return the shape of the solution."
        )
    mechanism = _TracedReplaceGradient if torch.compiler.is_compiling() else _ReplaceGradient
    return _apply(mechanism, hard, soft)


def finite_difference(oracle: Oracle, theta: Tensor, step: float) -> Tensor:
    """`y(theta) = argmax_y <theta, y>`, whose pullback of `g` is `(y(theta) - y(theta - step g)) / step`.

    The gradient of the piecewise affine interpolation of Vlastelica et al. (2020), written for a maximum. A second
    derivative is refused.  # (*S, B, *E) -> (*S, B, *E)
    """
    y, failed = _apply(_FiniteDifference, oracle, step, theta, *oracle.tensors)
    if oracle.on_failure != "raise":
        oracle.note(failed)
    return y
