"""How objects name themselves."""

from __future__ import annotations

import inspect


def constructor_call(obj: object) -> str:
    """The call that builds `obj`, from its constructor's parameters, each kept as an attribute of the same name."""
    parameters = inspect.signature(type(obj)).parameters.values()
    named = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return f"{type(obj).__name__}({', '.join(f'{name}={getattr(obj, name)!r}' for name in named)})"
