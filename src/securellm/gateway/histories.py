"""Whose server-side history is whose: an id that a provider gave to one tenant is nothing to another."""

from collections import OrderedDict

from securellm.core.errors import Code, Refusal

_MOST = 200_000


class Histories:
    """The tenants that made the responses of this process, the newest of them; lost with the process."""

    def __init__(self, *, most: int = _MOST) -> None:
        self._owners: OrderedDict[str, str] = OrderedDict()
        self._most = most

    def note(self, tenant: str, history: str) -> None:
        """A provider has given `history` to an answer of `tenant`."""
        self._owners[history] = tenant
        self._owners.move_to_end(history)
        if len(self._owners) > self._most:
            self._owners.popitem(last=False)

    def refuse_foreign(self, tenant: str, histories: tuple[str, ...], *, alone: bool) -> None:
        """Raises Refusal(NOT_FOUND) for an id that another tenant made, or that nobody here is known to have made.

        `alone`: no other tenant exists, so that an unknown id, from before a restart, can be nobody else's.
        """
        for history in histories:
            owner = self._owners.get(history)
            if owner != tenant and not (owner is None and alone):
                raise Refusal(Code.NOT_FOUND, "no response or conversation of this id was made here for this tenant")
