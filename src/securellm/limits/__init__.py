"""How fast: requests and tokens a minute, requests in parallel, sends to a provider, bad credentials of an address."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securellm.limits.buckets import Buckets
    from securellm.limits.model import Admission, Rate, Remaining, TenantRates, Window
    from securellm.limits.rules import network_of
    from securellm.limits.service import Limits
    from securellm.limits.store import LIMITS
else:
    from securellm.core.doors import room_by_room

    __getattr__ = room_by_room(__name__)

__all__ = ["LIMITS", "Admission", "Buckets", "Limits", "Rate", "Remaining", "TenantRates", "Window", "network_of"]
