"""Keys and signatures of tokens, as the library checks them: imported with the first set of keys that is read."""

from collections.abc import Mapping
from typing import Any

from joserfc import jwk, jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel


class _OneAlgorithm(jws.JWSRegistry):
    """What the library may use for one token of at most `longest` characters, its own limit on headers aside."""

    def __init__(self, only: str, *, longest: int) -> None:
        super().__init__(algorithms=[only], strict_check_header=False)
        self.max_header_length = longest
        self._only = only

    def get_alg(self, name: str) -> JWSAlgModel:
        if name != self._only:
            raise UnsupportedAlgorithmError
        # Without the base class's warning for "EdDSA": with the curve of its key bound by the caller, it is one thing.
        return self.algorithms[name]


def is_signed(text: str, key: Any, *, algorithm: str, longest: int) -> bool:
    """Whether the holder of `key` signed the token `text` with `algorithm`."""
    try:
        registry = _OneAlgorithm(algorithm, longest=longest)
        jws.deserialize_compact(text, key, algorithms=[algorithm], registry=registry)
    except (JoseError, ValueError):
        return False
    return True


def public_key(kind: str, members: Mapping[str, Any]) -> Any | None:
    """The key that the members of a JWK describe; None where they describe none of that kind."""
    try:
        match kind:
            case "RSA":
                return jwk.RSAKey.import_key(members)  # type: ignore[arg-type]
            case "EC":
                return jwk.ECKey.import_key(members)  # type: ignore[arg-type]
            case "OKP":
                return jwk.OKPKey.import_key(members)  # type: ignore[arg-type]
            case _:
                return None
    except (JoseError, ValueError, KeyError, TypeError):
        return None
