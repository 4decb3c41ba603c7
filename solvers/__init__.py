"""Combinatorial solvers: one problem per file, batched, forward only."""

if __name__ != "solverlayers.solvers":
    raise ImportError(f"Import `solverlayers.solvers`, not `{__name__}`: the short name would load a second copy.")
