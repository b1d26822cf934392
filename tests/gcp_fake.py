"""A strict contract fake of Google Cloud: Secret Manager, the token endpoint, and a machine's metadata server.

Written from the public documentation (secret-manager/docs/reference/rest, identity/protocols/oauth2/service-account,
compute/docs/metadata); it is not Google. The assertion's signature is verified by `cryptography`, not by what made it.
"""

import base64
import json
import re
from typing import Any
from urllib.parse import parse_qs

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from tests.http_fake import HttpFake, Request, Said, said

_VERSION = re.compile(r"/v1/(projects/[^/]+(?:/locations/[^/]+)?/secrets/[^/]+)/versions/([^/]+):access")
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_PEM = _KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()


class Version(msgspec.Struct):
    data: bytes
    state: str = "ENABLED"


class GcpFake(HttpFake):
    """`access` of versions for whoever holds a token that is good; tokens for assertions and for the machine."""

    EMAIL = "gateway@acme.iam.gserviceaccount.com"

    def __init__(self, *, now: int = 1_800_000_000) -> None:
        super().__init__()
        self.now = now
        """Seconds since the Unix epoch, by which assertions are judged."""
        self.secrets: dict[str, list[Version]] = {}
        self.denied: set[str] = set()
        self.tokens: set[str] = set()
        self.granted = 0
        self.damage = 0
        """Added to the checksum of every answer."""

    def add(self, secret: str, data: str) -> None:
        """A new version."""
        self.secrets.setdefault(secret, []).append(Version(data.encode()))

    def key_file(self, **members: Any) -> str:
        """The JSON key of the service account. Its own `token_uri` leads where nobody may go."""
        key = {
            "type": "service_account",
            "project_id": "acme",
            "private_key_id": "key-1",
            "private_key": _PEM,
            "client_email": self.EMAIL,
            "token_uri": "http://127.0.0.1:1/token",
        }
        return json.dumps({**key, **members})

    def answer(self, request: Request) -> Said:
        if request.method == "POST" and request.path == "/token":
            return self._token(request)
        if request.path == "/computeMetadata/v1/instance/service-accounts/default/token":
            if request.headers.get("metadata-flavor") != "Google":
                return Said(403)
            return self._granted(metadata_flavor="Google")
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return _error(401, "UNAUTHENTICATED")
        match = _VERSION.fullmatch(request.path)
        if request.method != "GET" or match is None:
            return _error(404, "NOT_FOUND")
        return self._access(match[1], match[2])

    def _access(self, secret: str, wanted: str) -> Said:
        if secret in self.denied:
            return _error(403, "PERMISSION_DENIED")
        versions = self.secrets.get(secret, [])
        number = len(versions) if wanted == "latest" else int(wanted)
        if not 0 < number <= len(versions):
            return _error(404, "NOT_FOUND")
        version = versions[number - 1]
        if version.state != "ENABLED":
            return _error(400, "FAILED_PRECONDITION")
        payload = {
            "data": base64.b64encode(version.data).decode(),
            "dataCrc32c": str((checksum(version.data) + self.damage) % (1 << 32)),
        }
        return said(200, {"name": f"{secret}/versions/{number}", "payload": payload})

    def _token(self, request: Request) -> Said:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return said(400, {"error": "unsupported_grant_type"})
        try:
            head, claims, signature = form["assertion"].split(".")
            _KEY.public_key().verify(
                _decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except (KeyError, ValueError, InvalidSignature):
            return said(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        if json.loads(_decoded(head)) != {"alg": "RS256", "typ": "JWT", "kid": "key-1"}:
            return said(400, {"error": "invalid_grant"})
        given = json.loads(_decoded(claims))
        due = {
            "iss": self.EMAIL,
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "aud": f"{self.url}/token",
            "iat": given.get("iat"),
            "exp": given.get("iat", 0) + 3600,
        }
        if given != due or abs(given["iat"] - self.now) > 300:
            return said(400, {"error": "invalid_grant"})
        return self._granted()

    def _granted(self, **headers: str) -> Said:
        self.granted += 1
        token = f"ya29.{self.granted}"
        self.tokens.add(token)
        return said(200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}, **headers)


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _error(code: int, status: str) -> Said:
    return said(code, {"error": {"code": code, "message": "no", "status": status}})


def checksum(data: bytes) -> int:
    """CRC-32C as a division of polynomials over two elements, bit by bit (RFC 3720, appendix B.4)."""
    bits = [byte >> place & 1 for byte in data for place in range(8)] + [0] * 32
    for place in range(32):
        bits[place] ^= 1
    for place in range(len(bits) - 32):
        if bits[place]:
            for offset, bit in enumerate(f"{0x11EDC6F41:033b}"):
                bits[place + offset] ^= int(bit)
    rest = bits[-32:]
    return sum((1 - bit) << place for place, bit in enumerate(rest))
