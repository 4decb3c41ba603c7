"""Pipelines: a network, a solver layer and a loss, trained to a measured result; and the command line."""

if __name__ != "solverlayers.tasks":
    raise ImportError(f"Import `solverlayers.tasks`, not `{__name__}`: the short name would load a second copy.")
