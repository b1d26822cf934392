"""Secrets in Google Cloud's Secret Manager.

After https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access and
https://developers.google.com/identity/protocols/oauth2/service-account#httprest. What names other places to send
assertions to (external accounts, a key file's own `token_uri`) is not followed.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from securellm.core.clock import Clock
from securellm.secrets.exchange import Answer, ask, place
from securellm.secrets.model import SourceFailure
from securellm.secrets.settings import GcpSettings
from securellm.secrets.value import SecretValue
from securellm.settings import SecretRef
from securellm.settings.references import GcpPlace

_METADATA = "169.254.169.254"
_TOKEN_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105 - an address
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_LIFE = 3600
_EARLY = 60.0
"""Seconds before its end that a token is used no more."""


class _Token(NamedTuple):
    value: SecretValue
    ends_at: float


class SecretManager:
    """Reads secrets with a token that is obtained when it is due or refused. Not thread-safe."""

    def __init__(
        self,
        settings: GcpSettings,
        *,
        base: Path,
        clock: Clock,
        environ: Mapping[str, str],
        resolve: Callable[[SecretRef], SecretValue],
    ) -> None:
        """ValueError when an address cannot be used."""
        self._settings = settings
        self._clock = clock
        self._resolve = resolve
        self._ca_file = None if settings.ca_file is None else base / settings.ca_file
        metadata = environ.get("GCE_METADATA_HOST") or _METADATA
        self._metadata = place(
            "the metadata server", f"http://{metadata}", timeout=settings.timeout, local=metadata == _METADATA
        )
        self._tokens = place(
            "Google's token endpoint", settings.token_endpoint, timeout=settings.timeout, ca_file=self._ca_file
        )
        if settings.endpoint is not None:
            place("Google Secret Manager", settings.endpoint, timeout=settings.timeout)
        self._token: _Token | None = None

    def read(self, wanted: GcpPlace) -> str:
        """The text of a version. Blocks. Raises SourceFailure."""
        kept = self._token is not None
        answer = self._ask(wanted)
        if answer.status == 401 and kept:
            self._token = None
            answer = self._ask(wanted)
        if answer.status == 401:
            self._token = None
        return _payload(_good(answer))

    def _ask(self, wanted: GcpPlace) -> Answer:
        regional = "" if wanted.location is None else f".{wanted.location}.rep"
        address = self._settings.endpoint or f"https://secretmanager{regional}.googleapis.com"
        where = place("Google Secret Manager", address, timeout=self._settings.timeout, ca_file=self._ca_file)
        headers = {"authorization": f"Bearer {self._current_token().reveal()}", "accept": "application/json"}
        return ask(where, "GET", f"/v1/{wanted.name}:access", headers=headers)

    def _current_token(self) -> SecretValue:
        if self._token is None or self._clock.monotonic() >= self._token.ends_at:
            of_machine = self._settings.auth == "metadata"
            self._token = self._of_machine() if of_machine else self._of_account()
        return self._token.value

    def _of_machine(self) -> _Token:
        answer = ask(self._metadata, "GET", _TOKEN_PATH, headers={"metadata-flavor": "Google"})
        if answer.status != 200 or answer.headers.get("metadata-flavor") != "Google":
            raise SourceFailure(
                "the metadata server gave no token", "give this machine, or this pod, a service account"
            )
        return self._granted(answer)

    def _of_account(self) -> _Token:
        if self._settings.service_account is None:
            raise SourceFailure("[secrets.gcp] names no service_account", "add service_account")
        assertion = self._assertion(self._resolve(self._settings.service_account))
        form = urlencode({"grant_type": _GRANT, "assertion": assertion.reveal()}).encode("ascii")
        answer = ask(self._tokens, "POST", "", headers={"content-type": "application/x-www-form-urlencoded"}, body=form)
        if answer.status in (400, 401, 403):
            raise SourceFailure(
                "Google refused the service account's key", "check that the key is enabled, and the clock"
            )
        if answer.status != 200:
            what = f"Google's token endpoint answered with status {answer.status}"
            raise SourceFailure(what, "look at Google Cloud's status", silent=True)
        return self._granted(answer)

    def _assertion(self, account: SecretValue) -> SecretValue:
        # Here, because most gateways have no service account and every command would pay for the import.
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import RSAKey

        remedy = "name the JSON key of a service account"
        try:
            key = json.loads(account.reveal())
        except (ValueError, RecursionError):
            raise SourceFailure("the service account's key is not JSON", remedy) from None
        if not isinstance(key, dict) or key.get("type") != "service_account":
            raise SourceFailure("the file is not the key of a service account", remedy)
        email, private = key.get("client_email"), key.get("private_key")
        if not isinstance(email, str) or not isinstance(private, str):
            raise SourceFailure("the service account's key is not whole", remedy)
        now = self._clock.now_us() // 1_000_000
        claims = {
            "iss": email,
            "scope": _SCOPE,
            "aud": self._settings.token_endpoint,
            "iat": now,
            "exp": now + _LIFE,
        }
        header = {"alg": "RS256", "typ": "JWT", "kid": str(key.get("private_key_id", ""))}
        try:
            return SecretValue(jwt.encode(header, claims, RSAKey.import_key(private), algorithms=["RS256"]))
        except (JoseError, ValueError, TypeError):
            raise SourceFailure("the service account's private key cannot be used", remedy) from None

    def _granted(self, answer: Answer) -> _Token:
        given = answer.json()
        token = given.get("access_token") if isinstance(given, dict) else None
        life = given.get("expires_in") if isinstance(given, dict) else None
        if not isinstance(token, str) or not token or isinstance(life, bool) or not isinstance(life, int) or life <= 0:
            raise SourceFailure("the answer about a token is not what Google's API says", "check what answers there")
        return _Token(SecretValue(token), self._clock.monotonic() + max(life - _EARLY, life / 2))


def _good(answer: Answer) -> Any:
    if answer.status == 200:
        return answer.json()
    said = answer.json()
    error = said.get("error") if isinstance(said, dict) else None
    status = error.get("status") if isinstance(error, dict) else None
    if answer.status == 404:
        raise SourceFailure(
            "Google has no such secret, or no such version of it", "check project, name and version", withdrawn=True
        )
    if status == "FAILED_PRECONDITION":
        raise SourceFailure("this version is disabled or destroyed", "enable it, or name another", withdrawn=True)
    if answer.status == 401:
        raise SourceFailure("Google did not accept our token", "check the service account")
    if answer.status == 403:
        raise SourceFailure("Google denies this secret", "grant roles/secretmanager.secretAccessor on it")
    silent = answer.status >= 500 or answer.status == 429
    raise SourceFailure(
        f"Google Secret Manager answered with status {answer.status}", "look at Google Cloud's status", silent=silent
    )


def _payload(given: Any) -> str:
    payload = given.get("payload") if isinstance(given, dict) else None
    data = payload.get("data") if isinstance(payload, dict) else None
    checksum = payload.get("dataCrc32c") if isinstance(payload, dict) else None
    if not isinstance(data, str) or not isinstance(checksum, str):
        raise SourceFailure("the answer is not what Google Secret Manager's API says", "check the endpoint")
    try:
        content = base64.b64decode(data, validate=True)
        due = int(checksum)
    except (binascii.Error, ValueError):
        raise SourceFailure("the answer is not what Google Secret Manager's API says", "check the endpoint") from None
    if crc32c(content) != due:
        raise SourceFailure("the secret's checksum is wrong: it was damaged on its way", "read it again", silent=True)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise SourceFailure("the secret's bytes are not UTF-8 text", "store the secret as text") from None


def _table() -> tuple[int, ...]:
    rows = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        rows.append(value)
    return tuple(rows)


_CRC_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum (RFC 3720, appendix B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ _CRC_TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
