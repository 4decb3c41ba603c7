"""Losses that call a solver, or know its solutions. Their gradients are true, so none has a backward pass of its own."""

from .base import SolverLoss as SolverLoss
from .base import regret as regret
from .decisions import PerturbationGradientLoss as PerturbationGradientLoss
from .decisions import Pushforward as Pushforward
from .imitation import FenchelYoungLoss as FenchelYoungLoss
from .imitation import ImitationLoss as ImitationLoss
from .imitation import RegularizedFenchelYoungLoss as RegularizedFenchelYoungLoss
from .imitation import SPOPlusLoss as SPOPlusLoss
from .imitation import StructuredHingeLoss as StructuredHingeLoss
from .pool import ListwiseRankingLoss as ListwiseRankingLoss
from .pool import MAPLoss as MAPLoss
from .pool import NCELoss as NCELoss
from .pool import PairwiseRankingLoss as PairwiseRankingLoss
from .pool import PointwiseRankingLoss as PointwiseRankingLoss
