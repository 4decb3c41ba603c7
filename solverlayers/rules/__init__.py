"""Backward rules: how a gradient passes through a solver."""

from .base import Rule as Rule
from .base import SurrogateRule as SurrogateRule
from .categorical import CategoricalStraightThrough as CategoricalStraightThrough
from .categorical import GappedStraightThrough as GappedStraightThrough
from .categorical import GumbelRao as GumbelRao
from .categorical import GumbelSoftmax as GumbelSoftmax
from .categorical import ReinMax as ReinMax
from .dab import DAB as DAB
from .differences import AIMLE as AIMLE
from .differences import IMLE as IMLE
from .differences import LPGD as LPGD
from .differences import Blackbox as Blackbox
from .perturbed import Perturbed as Perturbed
from .regularized import Regularized as Regularized
from .surrogates import Identity as Identity
from .surrogates import StraightThrough as StraightThrough
