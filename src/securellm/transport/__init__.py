"""Outbound HTTP/1.1: the only package that speaks to providers."""

from securellm.transport.model import Headers, OutboundRequest, Target, Timeouts, TlsOptions, parse_base_url
from securellm.transport.pool import Pool
from securellm.transport.reply import Reply

__all__ = ["Headers", "OutboundRequest", "Pool", "Reply", "Target", "Timeouts", "TlsOptions", "parse_base_url"]
