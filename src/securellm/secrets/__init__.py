"""Where credentials come from, and the value that never prints."""

from securellm.secrets.keys import KeyFolder, KeyRefused
from securellm.secrets.resolver import SecretResolver, SecretUnavailable, process_environment
from securellm.secrets.value import SecretValue

__all__ = ["KeyFolder", "KeyRefused", "SecretResolver", "SecretUnavailable", "SecretValue", "process_environment"]
