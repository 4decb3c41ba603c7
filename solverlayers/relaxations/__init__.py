"""Relaxations: differentiable maps from scores to maximise into the convex hull of the solutions.

What `StraightThrough(relaxation)` passes its gradient through. Each is a frozen dataclass, so that its `repr` is its
constructor call; written in plain torch, so that derivatives of every order are right, `torch.func` and
`torch.compile(fullgraph=True)` work, and any device serves; takes a `mask` of the entries that may be used; and becomes the
solver as its temperature or strength goes to zero.
"""

from .alignments import SoftAlignment as SoftAlignment
from .base import Relaxation as Relaxation
from .elementwise import HardTanh as HardTanh
from .elementwise import Sigmoid as Sigmoid
from .elementwise import Tanh as Tanh
from .paths import SoftMinPath as SoftMinPath
from .permutahedron import EntropicRank as EntropicRank
from .permutahedron import EntropicSort as EntropicSort
from .permutahedron import ProjectedSort as ProjectedSort
from .permutahedron import SoftRank as SoftRank
from .permutations import NeuralSort as NeuralSort
from .permutations import Ranks as Ranks
from .permutations import Sinkhorn as Sinkhorn
from .permutations import SoftSort as SoftSort
from .simplex import Entmax as Entmax
from .simplex import Softmax as Softmax
from .simplex import Sparsemax as Sparsemax
from .subsets import EntropicTopK as EntropicTopK
from .subsets import SoftTopK as SoftTopK
