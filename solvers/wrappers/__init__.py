"""Solvers around solvers: remembered, spread over processes, limited in time, or solved in the background."""

from .asynchronous import Async as Async
from .asynchronous import Pending as Pending
from .cached import Cached as Cached
from .cached import CacheStatistics as CacheStatistics
from .parallel import Parallel as Parallel
from .parallel import WorkerError as WorkerError
from .timed import Timed as Timed
