"""Whose rows a transaction reaches."""

import msgspec


class Scope(msgspec.Struct, frozen=True):
    """One tenant's rows; or with None those of all tenants and of the installation."""

    tenant: str | None

    def __post_init__(self) -> None:
        if self.tenant in ("", "*"):
            raise ValueError("no tenant has this id")


EVERYWHERE = Scope(None)
