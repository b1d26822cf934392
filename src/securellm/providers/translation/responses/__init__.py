"""Responses: read from clients and upstreams, written for either."""

from securellm.providers.translation.responses.documented import EMPTY, MERE_HINTS
from securellm.providers.translation.responses.speaker import RESPONSES

__all__ = ["EMPTY", "MERE_HINTS", "RESPONSES"]
