"""How an upstream of each dialect is asked and read: pure functions and state machines over bytes."""

from securellm.providers.dialects.errands import BATCHINGS, ERRANDS
from securellm.providers.dialects.shape import every_text
from securellm.providers.dialects.table import DIALECTS
from securellm.providers.dialects.work import Batching, Progress, without

__all__ = ["BATCHINGS", "DIALECTS", "ERRANDS", "Batching", "Progress", "every_text", "without"]
