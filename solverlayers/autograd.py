"""The only `torch.autograd.Function`s of the package.

Three mechanisms cover all rules: `replace_gradient`, `finite_difference`, and score weights in plain autograd. Functions take
the oracle and its instance tensors side by side, so that `torch.func.vmap` can fold a mapped dimension of any of them into
the batch: mapping a layer is still one call of the solver.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .noise import Draw
    from .oracle import Oracle


def _no_second_derivative(ctx: Any, *_: Any) -> Any:
    raise RuntimeError(
        "The second derivative of a finite difference of a solver is zero almost everywhere and says nothing, so it is "
        "refused. Take first derivatives only (no `create_graph=True`, no nested `torch.func.grad`), or choose a rule whose "
        "second derivative is defined: StraightThrough with a relaxation, Identity, DAB, or Perturbed."
    )


def _active() -> bool:
    """Whether a `torch.func` transform is running; then only a Function sees plain tensors."""
    return torch._C._are_functorch_transforms_active()


def is_transformed() -> bool:
    """Whether tensors are stand-ins, of a `torch.func` transform or of `torch.compile`, whose values nobody can read."""
    return torch.compiler.is_compiling() or _active()


def is_mapped(grad: Tensor) -> bool:
    """Whether a backward pass gets many gradients at once: by `torch.func.vmap`, or `autograd.grad(is_grads_batched=True)`."""
    return _active() or _mapped_the_old_way(grad)


def _mapped_the_old_way(grad: Tensor) -> bool:
    return not torch.compiler.is_compiling() and torch._C._functorch.is_legacy_batchedtensor(grad)


def _map_again(pullback: Callable[[Tensor], Tensor], grad: Tensor) -> Tensor:
    """`pullback(grad)` for the many gradients of `torch.autograd.grad(..., is_grads_batched=True)`.

    That maps by an old way of torch, which asks no Function for its rule; `torch.func.vmap`, which does, takes over here.
    """
    level = max(torch._C._vmapmode_increment_nesting() - 1, 1)  # threads of backward passes on a GPU are not told of it
    torch._C._vmapmode_decrement_nesting()
    every = torch._remove_batch_dim(grad, level, 0, 0)
    return torch._add_batch_dim(torch.func.vmap(pullback)(every), 0, level)


def _apply(function: type[torch.autograd.Function], *args: Any) -> Any:
    """`function.apply` without its binding of default arguments, which costs ten microseconds."""
    if torch.compiler.is_compiling():
        return function.apply(*args)
    if _active():
        return torch._functorch.autograd_function.custom_function_call(function, *args)
    base: Any = super(torch.autograd.Function, function)
    return base.apply(*torch._functorch.utils.unwrap_dead_wrappers(args))


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


def _in_front(info: Any, in_dims: tuple, *tensors: Tensor) -> list[Tensor]:
    """The mapped dimension first in all of them, for what treats leading dimensions alike."""
    return [t.movedim(d, 0) if d is not None else t.expand(info.batch_size, *t.shape) for t, d in zip(tensors, in_dims)]


class _Solve(torch.autograd.Function):
    """`argmax <theta, y>` with the mask of failed instances; no gradient."""

    @staticmethod
    def forward(oracle, theta, *tensors):
        y, failed = oracle.argmax(theta, tensors)
        return y, _none_failed(oracle, theta) if failed is None else failed

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
        y, failed = _apply(_Solve, oracle, folded, *rest)
        return (y.unflatten(axis, (info.batch_size, -1)), failed.unflatten(0, (info.batch_size, -1))), (axis, 0)


def _none_failed(oracle: Oracle, theta: Tensor) -> Tensor:
    return torch.zeros(theta.shape[-oracle.event_dim - 1], dtype=torch.bool, device=theta.device)


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


class _TransformedReplaceGradient(_TracedReplaceGradient):
    """The same with the forward mode, and without the class that torch would make for every mapped call."""

    generate_vmap_rule = False

    @staticmethod
    def vmap(info, in_dims, hard, soft):
        return _apply(_TransformedReplaceGradient, *_in_front(info, in_dims, hard, soft)), 0

    @staticmethod
    def jvp(ctx, _, soft):
        return soft.clone()


class _ReplaceGradient(torch.autograd.Function):
    """The same for plain eager mode: a context made in `forward` is cheaper than `setup_context`."""

    @staticmethod
    def forward(ctx, hard, soft):
        return hard.detach()

    backward = _TransformedReplaceGradient.backward
    jvp = _TransformedReplaceGradient.jvp


class _IdentitySolve(torch.autograd.Function):
    """`argmax <theta, y>` with the gradient of `theta`, for plain eager mode: solving here saves a second context."""

    @staticmethod
    def forward(ctx, oracle, theta):
        ctx.costs = oracle.sense == "min"
        y, failed = oracle.argmax(theta, oracle.tensors)
        oracle.note(failed)
        return y

    @staticmethod
    def backward(ctx, grad):
        return None, -grad if ctx.costs else grad

    @staticmethod
    def jvp(ctx, _, theta):
        return -theta if ctx.costs else theta.clone()


class _Shortcut(torch.autograd.Function):
    """A value with a short way to its first derivative, and a differentiable one for higher orders and mapped passes."""

    @staticmethod
    def forward(ctx, value, theta, constant, short, stand_in):
        ctx.save_for_backward(theta, constant)
        ctx.short, ctx.stand_in = short, stand_in
        return value.detach()

    @staticmethod
    def backward(ctx, grad):
        theta, constant = ctx.saved_tensors
        again = torch.is_grad_enabled()
        if again or is_mapped(grad):
            with torch.enable_grad():
                stand_in = ctx.stand_in(theta, constant)
            out = torch.autograd.grad(stand_in, theta, grad, create_graph=again)[0]
        else:
            out = ctx.short(theta, constant, grad)
        return None, out, None, None, None


class _Normalise(torch.autograd.Function):
    """`theta / |theta|`, in fewer and smaller steps than autograd would take."""

    generate_vmap_rule = True

    @staticmethod
    def forward(theta, event_dim):
        return theta * _inverse_norm(theta, event_dim)

    @staticmethod
    def setup_context(ctx, inputs, output):
        theta, ctx.event_dim = inputs
        ctx.save_for_backward(theta)
        ctx.save_for_forward(theta)

    @staticmethod
    def backward(ctx, grad):
        (theta,) = ctx.saved_tensors  # the unit vector is made again, so that second derivatives see how it depends on theta
        return _tangential(theta, grad, ctx.event_dim), None

    @staticmethod
    def jvp(ctx, direction, _):
        (theta,) = ctx.saved_tensors
        return _tangential(theta, direction, ctx.event_dim)


def _inverse_norm(theta: Tensor, event_dim: int) -> Tensor:
    norm = torch.linalg.vector_norm(theta, dim=tuple(range(-event_dim, 0)), keepdim=True)
    return torch.where(norm == 0, 1, norm).reciprocal()


def _tangential(theta: Tensor, direction: Tensor, event_dim: int) -> Tensor:
    inverse = _inverse_norm(theta, event_dim)
    unit = theta * inverse
    radial = (unit * direction).sum(tuple(range(-event_dim, 0)), keepdim=True)
    return (direction - radial * unit) * inverse


class Scheme(NamedTuple):
    """Which finite difference of a solver `finite_difference` takes."""

    two_sided: bool = False
    """Whether to take the central difference, for a second extra solve."""
    norm: float | None = None
    """The step is divided by this norm of the gradient, over the batch; None takes the step as it is."""
    pull: float = 0.0
    """The weight of the pull of the second solution towards the first, in scores."""
    centre: float = 0.0
    """What is subtracted from the first solution before it pulls."""
    groups: int = 1
    """How many batches lie folded into one by `torch.func.vmap`; each has its own norm."""
    noise: Draw | None = None
    """What is added to `theta` wherever it is solved; a solution is then the mean over the samples. Not under a transform."""
    sigma: float = 1.0
    """The scale of the noise."""

    def argmax(self, oracle: Oracle, theta: Tensor, tensors: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        """The solution, or the mean solution under noise, and which instances failed.  # (*S, B, *E) -> (*S, B, *E), (B,)"""
        if self.noise is None:
            return oracle.argmax(theta, tensors)
        mean, _, failed = oracle.mean_argmax(theta, tensors, self.noise, self.sigma)
        return mean, failed


_PLAIN = Scheme()


def _no_forward_mode(ctx: Any, *_: Any) -> Any:
    raise RuntimeError(
        "A finite difference of a solver is made for the gradient that comes back, so it has no forward mode. Use reverse mode "
        "(`backward`, `torch.func.vjp`, `jacrev`), or a rule with both modes: StraightThrough, Identity or DAB."
    )


class _TracedFiniteDifference(torch.autograd.Function):
    """`argmax <theta, y>` with the pullback of the interpolated solver; see `finite_difference`."""

    @staticmethod
    def forward(oracle, scheme, step, theta, *tensors):
        y, failed = scheme.argmax(oracle, theta, tensors)
        return y, _none_failed(oracle, theta) if failed is None else failed

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.oracle, ctx.scheme, step, theta, *tensors = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.fixed = None if isinstance(step, Tensor) else step  # a float stays one, which saves the arithmetic a launch
        ctx.fails = ctx.oracle.on_failure != "raise"
        ctx.save_for_backward(theta, *output[: 1 + ctx.fails], *([step] if ctx.fixed is None else []), *tensors)

    @staticmethod
    def backward(ctx, grad, _):
        theta, y, *tensors = ctx.saved_tensors
        failed = tensors.pop(0) if ctx.fails else None
        step = tensors.pop(0) if ctx.fixed is None else ctx.fixed
        out = _difference(ctx.oracle, ctx.scheme, step, theta, y, grad, tuple(tensors))
        if failed is not None:  # a moved score may be solved where the score itself was not
            out = torch.where(ctx.oracle.expand(failed), 0, out)
        return None, None, None, out, *(None,) * len(tensors)

    @staticmethod
    def vmap(info, in_dims, oracle, scheme, step, theta, *tensors):
        folded, rest, axis = _fold(info, in_dims[3:], oracle, theta, tensors)
        scheme = scheme._replace(groups=info.batch_size * scheme.groups)
        step = _fold_step(info, in_dims[2], step, folded.shape[axis])
        y, failed = _apply(_FiniteDifference, oracle, scheme, step, folded, *rest)
        return (y.unflatten(axis, (info.batch_size, -1)), failed.unflatten(0, (info.batch_size, -1))), (axis, 0)


class _FiniteDifference(_TracedFiniteDifference):
    """The same, which says why it has no forward mode; `torch.compile` traces no Function that says anything of it."""

    jvp = staticmethod(_no_forward_mode)


class _Difference(torch.autograd.Function):
    """The pullback itself, as a Function whose own derivative is refused, under every transform."""

    @staticmethod
    def forward(oracle, scheme, step, theta, y, grad, *tensors):
        return _shifted_difference(oracle, scheme, step, theta, y, grad, tensors)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    backward = staticmethod(_no_second_derivative)
    jvp = staticmethod(_no_second_derivative)

    @staticmethod
    def vmap(info, in_dims, oracle, scheme, step, theta, y, grad, *tensors):
        if scheme.noise is not None:
            raise RuntimeError(
                f"{type(oracle.solver).__name__}: the backward pass alone is mapped, and the noise of the layer was drawn "
                f"outside of the map. Call the layer inside of it, as `torch.func.jacrev` does."
            )
        folded, rest, axis = _fold(info, (in_dims[3], *in_dims[6:]), oracle, theta, tensors)
        y, grad = (_fold(info, (d,), oracle, t, ())[0] for t, d in ((y, in_dims[4]), (grad, in_dims[5])))
        scheme = scheme._replace(groups=info.batch_size * scheme.groups)
        step = _fold_step(info, in_dims[2], step, folded.shape[axis])
        out = _apply(_Difference, oracle, scheme, step, folded, y, grad, *rest)
        return out.unflatten(axis, (info.batch_size, -1)), axis


def _fold_step(info: Any, dim: int | None, step: float | Tensor, batch: int) -> float | Tensor:
    """A step per mapped index as one per instance of the folded batch.  # (V) or (V, B) -> (V*B)"""
    if not isinstance(step, Tensor):
        return step
    step = step.movedim(dim, 0) if dim is not None else step.expand(info.batch_size, *step.shape)
    return (step if step.ndim == 2 else step.unsqueeze(1)).expand(info.batch_size, batch // info.batch_size).flatten()


def _shifted_difference(
    oracle: Oracle, scheme: Scheme, step: float | Tensor, theta: Tensor, y: Tensor, grad: Tensor, tensors: tuple
) -> Tensor:
    base = torch.add(theta, y - scheme.centre, alpha=scheme.pull) if scheme.pull else theta
    if isinstance(step, Tensor):
        step = _relative(oracle, scheme, step, grad)
        step = oracle.expand(step) if step.ndim else step
        grad, alpha = step * grad.to(step.dtype), 1.0
        width: float | Tensor = torch.where(step == 0, torch.inf, step)
    else:
        alpha, width = step, step
    if scheme.two_sided:
        above, failed = scheme.argmax(oracle, base.add(grad, alpha=alpha), tensors)
        below, also_failed = scheme.argmax(oracle, base.sub(grad, alpha=alpha), tensors)
        failed = None if failed is None or also_failed is None else failed | also_failed
        out = (above - below).div_(width).div_(2)
    else:
        shifted, failed = scheme.argmax(oracle, torch.sub(base, grad, alpha=alpha), tensors)
        out = (y - shifted).div_(width)
    if failed is not None:
        out.masked_fill_(oracle.expand(failed), 0)
    return out.to(theta.dtype)


def _relative(oracle: Oracle, scheme: Scheme, step: Tensor, grad: Tensor) -> Tensor:
    """The step over the norm of the gradient, zero where the gradient is.  # () or (B,), (*S, B, *E) -> () or (B,)"""
    if scheme.norm is None:
        return step
    if scheme.groups == 1:
        norm = torch.linalg.vector_norm(grad, scheme.norm, dtype=step.dtype)
    else:
        batches = grad.unflatten(grad.ndim - oracle.event_dim - 1, (scheme.groups, -1)).movedim(-oracle.event_dim - 2, 0)
        norm = torch.linalg.vector_norm(batches.flatten(1), scheme.norm, dim=1, dtype=step.dtype)
        norm = norm.repeat_interleave(batches.shape[-oracle.event_dim - 1])
    return torch.where(norm > 0, step / norm, 0)


def _difference(
    oracle: Oracle, scheme: Scheme, step: float | Tensor, theta: Tensor, y: Tensor, grad: Tensor, tensors: tuple
) -> Tensor:
    if _mapped_the_old_way(grad):
        return _map_again(lambda one: _difference(oracle, scheme, step, theta, y, one, tensors), grad)
    if torch.is_grad_enabled() or _active():
        return _apply(_Difference, oracle, scheme, step, theta, y, grad, *tensors)
    return _shifted_difference(oracle, scheme, step, theta, y, grad, tensors)


def solve(oracle: Oracle, theta: Tensor) -> tuple[Tensor, Tensor | None]:
    """`argmax_y <theta, y>` and the mask of failed instances; no gradient.  # (*S, B, *E) -> (*S, B, *E), (B,)"""
    if _active():
        return _apply(_Solve, oracle, theta, *oracle.tensors)
    with torch.no_grad():
        return oracle.argmax(theta.detach(), oracle.tensors)


def is_plain() -> bool:
    """Whether tensors are what they seem: no transform, no tracing, no forward mode, which the shortest ways do without."""
    return not is_transformed() and torch.autograd.forward_ad._current_level < 0


def solve_as_identity(oracle: Oracle, theta: Tensor) -> Tensor:
    """`argmax_y <theta, y>` with the gradient of `theta`, or the solution of least cost with that of `-theta`.

    # (*S, B, *E) -> (*S, B, *E)
    """
    if is_transformed():
        return replace_gradient(oracle(theta), theta if oracle.sense == "max" else -theta)
    return _apply(_IdentitySolve, oracle, theta)


def shortcut(
    value: Tensor,
    theta: Tensor,
    constant: Tensor,
    short: Callable[[Tensor, Tensor, Tensor], Tensor],
    stand_in: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """`value` with the gradient of `stand_in(theta, constant)`, for plain eager mode.

    `short(theta, constant, grad)` is the pullback of the stand-in, without its graph: first derivatives take it, one by one.
    """
    return _apply(_Shortcut, value, theta, constant, short, stand_in)


def normalise(theta: Tensor, event_dim: int) -> Tensor:
    """`theta / |theta|` for each instance; scores that are all zero stay zero.  # (*S, B, *E) -> (*S, B, *E)"""
    if torch.compiler.is_compiling():
        return theta * _inverse_norm(theta, event_dim)
    return _apply(_Normalise, theta, event_dim)


def replace_gradient(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard`, bit for bit and sharing its memory, with the gradient of `soft`, of the same shape."""
    if hard.shape != soft.shape:
        raise ValueError(
            f"replace_gradient: the value has shape {tuple(hard.shape)} but its stand-in has shape {tuple(soft.shape)}; "
            f"a surrogate (relaxation or approximator) must return the shape of the solution."
        )
    if torch.compiler.is_compiling():
        return _TracedReplaceGradient.apply(hard, soft)
    return _apply(_TransformedReplaceGradient if _active() else _ReplaceGradient, hard, soft)


def finite_difference(oracle: Oracle, theta: Tensor, step: float | Tensor, scheme: Scheme = _PLAIN) -> Tensor:
    """`y(theta) = argmax_y <theta, y>`, whose pullback of `g` is a difference of two solutions over the step.

    One-sided, the gradient of the piecewise affine interpolation of Vlastelica et al. (2020) written for a maximum:
    `(y(theta) - y(theta - step g)) / step`; a negative step looks to the other side. Two-sided:
    `(y(theta + step g) - y(theta - step g)) / (2 step)`. With a `pull` the scores of the second solution (two-sided: of
    both) are moved by `pull (y(theta) - centre)`. A tensor step has one number, or one per instance; where it is zero, so is
    the gradient. With noise in the scheme, `y` is the mean over its samples everywhere. In plain eager mode later solves start
    where the first one ended, if the solver can (`Solver.optimise_with_start`). A second derivative is refused.

    For costs and an oracle that minimises `y` is the minimiser, and the pullback that of the maximum at `-theta`: signs of the
    step and of the pull turn round.  # (*S, B, *E) -> (*S, B, *E)
    """
    if isinstance(step, Tensor):
        step = step.detach()
    if oracle.sense == "min":
        step, scheme = -step, scheme._replace(pull=-scheme.pull)
    if torch.compiler.is_compiling() and not (theta.requires_grad and torch.is_grad_enabled()):
        return oracle(theta)  # the compiler confuses the arguments of a Function with no gradient to give
    if theta.requires_grad and not is_transformed():
        oracle.restarts = "warm_start" not in oracle.names
    function = _TracedFiniteDifference if torch.compiler.is_compiling() else _FiniteDifference
    y, failed = _apply(function, oracle, scheme, step, theta, *oracle.tensors)
    if oracle.on_failure != "raise":
        oracle.note(failed)
    return y


def _no_second_estimate(ctx: Any, *_: Any) -> Any:
    raise RuntimeError(
        "This estimator gives a first derivative; differentiating the estimate again would lose the terms that come from the "
        "sampling, so it is refused. Take first derivatives only (no `create_graph=True`, no nested `torch.func.grad`), or use "
        "ScoreFunction or Exact, whose derivatives of every order are right."
    )


class _GivenGradient(torch.autograd.Function):
    """The value of one tensor with its own gradient, and a gradient that is known for another one."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value, tensor, gradient):
        return value.detach()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx, grad):
        tensor, gradient = ctx.saved_tensors
        if torch.is_grad_enabled() or _active():
            return grad, _apply(_Weighted, grad, gradient, tensor), None
        return grad, _Weighted.forward(grad, gradient, tensor), None


class _Weighted(torch.autograd.Function):
    """A gradient given per instance, times what comes from above; its own derivative is refused, under every transform.

    The tensor is an input because the gradient depends on it, in a way that is not known: that is what is refused.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(grad, gradient, tensor):
        return grad[(...,) + (None,) * (gradient.ndim - grad.ndim)] * gradient

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    backward = staticmethod(_no_second_estimate)


def given_gradient(value: Tensor, tensor: Tensor, gradient: Tensor) -> Tensor:
    """`value`, whose derivative with respect to `tensor` is `gradient`, besides the derivatives it already has.

    A second derivative through `gradient` is refused.  # (*B), (*B, *E), (*B, *E) -> (*B)
    """
    return _apply(_GivenGradient, value, tensor, gradient)


class _Watched(torch.autograd.Function):
    """The identity; its gradient is shown to somebody on its way, whole also where a dimension is mapped."""

    @staticmethod
    def forward(x, note):
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.note = inputs[1]

    @staticmethod
    def backward(ctx, grad):
        ctx.note(grad.detach())
        return grad, None

    @staticmethod
    def vmap(info, in_dims, x, note):
        return _apply(_Watched, x.movedim(in_dims[0], 0), note), 0


def watch_gradient(x: Tensor, note: Callable[[Tensor], None]) -> Tensor:
    """`x`, whose gradient `note` is shown when it passes: with the mapped dimension in front under `torch.func.vmap`, where
    a hook cannot be.  # (*B) -> (*B)
    """
    return _apply(_Watched, x, note)
