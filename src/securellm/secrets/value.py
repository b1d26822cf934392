"""A secret that a program can hold without ever writing it by accident."""

import hmac
from typing import Any, Final, NoReturn

MASK: Final = "[secret]"


class SecretValue:
    """A secret. Printing, formatting and logging show a mask; pickling, copying and encoding are refused.

    Equality takes the same time wherever the difference is. There is no hash: a secret is no dictionary key.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The secret itself. Call it where the secret leaves the process, and keep the answer in no variable."""
        return self.__value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretValue):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.__value.encode())

    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a secret is not pickled or copied")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret has no state to give away")

    def __copy__(self) -> NoReturn:
        raise TypeError("a secret is not copied")

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise TypeError("a secret is not copied")
