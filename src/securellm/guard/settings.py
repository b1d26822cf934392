"""Is it safe: the key `guard` under `[[tenants]]`."""

from typing import Literal

GuardLevel = Literal["off", "observe", "standard", "strict"]
"""How strict screening is: nothing, findings only, redact and block, block at less."""
