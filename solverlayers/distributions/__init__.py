"""Distributions over solutions, in the habit of `torch.distributions`; for Bernoulli and one-hot latents use torch's own."""

from .k_subset import KSubset as KSubset
from .perturbed_solution import PerturbedSolution as PerturbedSolution
from .plackett_luce import PlackettLuce as PlackettLuce
