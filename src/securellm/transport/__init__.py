"""Outbound HTTP/1.1: the only package that speaks to providers."""

from securellm.transport.model import Headers, OutboundRequest, Target, Timeouts, TlsOptions, parse_base_url
from securellm.transport.pool import Pool
from securellm.transport.reply import Reply
from securellm.transport.tls import build_context

__all__ = [
    "Headers",
    "OutboundRequest",
    "Pool",
    "Reply",
    "Target",
    "Timeouts",
    "TlsOptions",
    "build_context",
    "parse_base_url",
]
