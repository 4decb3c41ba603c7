"""Estimators: the expected value of a black-box loss of a random solution, with a gradient."""

from .antithetic import ARM as ARM
from .antithetic import DisARM as DisARM
from .base import Estimator as Estimator
from .baselines import Baseline as Baseline
from .baselines import LearnedBaseline as LearnedBaseline
from .baselines import LeaveOneOut as LeaveOneOut
from .baselines import MovingAverage as MovingAverage
from .control_variates import LAX as LAX
from .control_variates import REBAR as REBAR
from .control_variates import RELAX as RELAX
from .score_function import Exact as Exact
from .score_function import ScoreFunction as ScoreFunction
