"""What keeps a secret from being known: the reference, the reason and the remedy, never a value."""


class SecretUnavailable(Exception):
    """A reference that cannot be resolved. Names the reference or the file; never a value."""

    def __init__(self, reference: str, reason: str, remedy: str, *, withdrawn: bool = False) -> None:
        super().__init__(f"{reference}: {reason}")
        self.reference = reference
        self.reason = reason
        self.remedy = remedy
        self.withdrawn = withdrawn
        """Whether its source says that the secret is no more: what was known of it must not be used on."""


class SourceFailure(Exception):
    """What a source of secrets did instead of giving one. `reason` holds nothing that the source has said."""

    def __init__(self, reason: str, remedy: str, *, withdrawn: bool = False, silent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.withdrawn = withdrawn
        self.silent = silent
        """Whether the source as a whole does not answer, so that asking it for another secret is idle."""
