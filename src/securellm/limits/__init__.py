"""How fast: requests and tokens a minute, requests in parallel, sends to a provider, bad credentials of an address."""

from securellm.limits.buckets import Buckets
from securellm.limits.model import Admission, Rate, Remaining, TenantRates, Window
from securellm.limits.rules import network_of
from securellm.limits.service import Limits
from securellm.limits.store import LIMITS

__all__ = ["LIMITS", "Admission", "Buckets", "Limits", "Rate", "Remaining", "TenantRates", "Window", "network_of"]
