"""What can be wrong with stored data when a process starts or an operator looks at it."""

from securellm.core.errors import Code, Fault


class StorageError(Exception):
    """The root. `reason` names files, never content; `remedy` is what the operator does next."""

    def __init__(self, reason: str, *, remedy: str) -> None:
        super().__init__(f"{reason}. {remedy}")
        self.reason = reason
        self.remedy = remedy


class DataDirLocked(StorageError):
    """Another process owns the data directory."""


class StorageRefused(StorageError):
    """The data is whole but not ours to write: another schema, version, log or key."""


class StorageDamaged(StorageError):
    """The data cannot be read as what it should be."""


class StorageChanged(StorageDamaged):
    """A file thought idle was written to during the look at it; looking again gives a sound answer."""


class StorageConflict(StorageError):
    """A write broke a rule of the schema, such as a name that exists already."""


class ShippingRefused(StorageError):
    """What a database holds of a journal is not what the journal says: one of them was changed."""


class OutOfScope(Fault):
    """A statement would leave the scope of its tenant: a defect of ours, refused before it does harm."""

    def __init__(self, reason: str) -> None:
        super().__init__(Code.INTERNAL, reason)


class CommitUncertain(Fault):
    """The connection broke during COMMIT: whether the change was made is not known to the one who made it."""

    def __init__(self, name: str) -> None:
        super().__init__(Code.STORAGE_UNAVAILABLE, f"the control database {name} was lost during a commit")
