"""Typed configuration fields and the loader that reads them: it knows no slice."""

from securellm.settings.fields import (
    Amount,
    Bytes,
    Field,
    FilePath,
    HostName,
    Instant,
    Listen,
    Permille,
    PricePerMillion,
    Seconds,
    is_loopback,
)
from securellm.settings.loader import ConfigError, Problem, effective, load
from securellm.settings.references import SecretRef

__all__ = [
    "Amount",
    "Bytes",
    "ConfigError",
    "Field",
    "FilePath",
    "HostName",
    "Instant",
    "Listen",
    "Permille",
    "PricePerMillion",
    "Problem",
    "Seconds",
    "SecretRef",
    "effective",
    "is_loopback",
    "load",
]
