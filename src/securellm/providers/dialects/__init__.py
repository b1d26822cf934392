"""How an upstream of each dialect is asked and read: pure functions and state machines over bytes."""

from securellm.providers.dialects.table import DIALECTS

__all__ = ["DIALECTS"]
