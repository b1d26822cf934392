"""Secrets in HashiCorp Vault or OpenBao: key-value stores, with versions (KV v2) and without (KV v1).

After https://developer.hashicorp.com/vault/api-docs/secret/kv and /vault/api-docs/auth.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from securellm.core.clock import Clock
from securellm.secrets.exchange import Answer, Place, ask, place
from securellm.secrets.model import SourceFailure
from securellm.secrets.settings import VaultSettings
from securellm.secrets.value import SecretValue
from securellm.settings import SecretRef
from securellm.settings.references import VaultPlace

_RENEW_AFTER = 0.5
"""Share of a token's life after which it is renewed."""
_EARLY = 0.9
"""Share of a token's life after which it is used no more."""


class _Login(NamedTuple):
    """A token of Vault's, with times of the clock's `monotonic`."""

    token: SecretValue
    renew_at: float
    ends_at: float


class Vault:
    """Reads secrets with a token that it obtains, renews and, when it is refused, obtains anew. Not thread-safe."""

    def __init__(
        self, settings: VaultSettings, *, base: Path, clock: Clock, resolve: Callable[[SecretRef], SecretValue]
    ) -> None:
        """`resolve` gives what shows who we are. ValueError when the address cannot be used."""
        self._settings = settings
        self._clock = clock
        self._resolve = resolve
        ca_file = None if settings.ca_file is None else base / settings.ca_file
        self._place: Place = place("Vault", settings.address, timeout=settings.timeout, ca_file=ca_file)
        self._login: _Login | None = None

    def read(self, wanted: VaultPlace) -> Mapping[str, Any]:
        """All members of the secret at a path. Blocks. Raises SourceFailure."""
        path = f"/v1/{wanted.path}" + ("" if wanted.version is None else f"?version={wanted.version}")
        fresh = self._login is None
        answer = self._call("GET", path, token=self._token())
        if answer.status == 403 and not fresh:
            # The token may have been revoked before its time.
            self._login = None
            answer = self._call("GET", path, token=self._token())
        if answer.status == 403:
            self._login = None
        data = _object(_good(answer, wanted.path).get("data"))
        return _versioned(data) if wanted.versioned else data

    # Who we are

    def _token(self) -> SecretValue:
        now = self._clock.monotonic()
        login = self._login
        if login is None or now >= login.ends_at:
            login = self._given_token() if self._settings.auth == "token" else self._logged_in()
        elif now >= login.renew_at:
            login = self._renewed(login)
        self._login = login
        return login.token

    def _given_token(self) -> _Login:
        """The operator's own token, with what Vault says of its life, where it says so."""
        token = self._shown("token", self._settings.token)
        answer = self._call("GET", "/v1/auth/token/lookup-self", token=token)
        if answer.status == 403:
            # A token without the default policy may read secrets and not look at itself.
            return _Login(token, math.inf, math.inf)
        facts = _object(_good(answer, "auth/token/lookup-self").get("data"))
        return self._lasting(token, facts.get("ttl"), renewable=facts.get("renewable"))

    def _logged_in(self) -> _Login:
        settings = self._settings
        if settings.auth == "approle":
            shown = {
                "role_id": self._shown("role_id", settings.role_id).reveal(),
                "secret_id": self._shown("secret_id", settings.secret_id).reveal(),
            }
        else:
            shown = {"role": settings.role or "", "jwt": self._resolve(settings.jwt).reveal()}
        path = f"auth/{settings.mount or settings.auth}/login"
        answer = self._call("POST", f"/v1/{path}", body=json.dumps(shown).encode("ascii"))
        if answer.status in (400, 401, 403):
            raise SourceFailure(f"Vault refused the login at {path}", "check the role and what [secrets.vault] shows")
        return self._granted(answer, path)

    def _renewed(self, login: _Login) -> _Login:
        path = "auth/token/renew-self"
        try:
            answer = self._call("POST", f"/v1/{path}", token=login.token, body=b"{}")
            if answer.status in (400, 403):
                raise SourceFailure("Vault no longer renews this token", "log in anew")
            return self._granted(answer, path)
        except SourceFailure as failure:
            if self._settings.auth == "token" or failure.silent:
                # What still holds is used until it ends.
                return login
            return self._logged_in()

    def _granted(self, answer: Answer, path: str) -> _Login:
        auth = _object(_good(answer, path).get("auth"))
        token = auth.get("client_token")
        if not isinstance(token, str) or not token:
            raise _unreadable(path)
        return self._lasting(SecretValue(token), auth.get("lease_duration"), renewable=auth.get("renewable"))

    def _lasting(self, token: SecretValue, seconds: object, *, renewable: object) -> _Login:
        if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 0:
            raise _unreadable("the life of a token")
        if seconds == 0:
            return _Login(token, math.inf, math.inf)
        now = self._clock.monotonic()
        renew_at = now + seconds * _RENEW_AFTER if renewable is True else math.inf
        return _Login(token, renew_at, now + seconds * _EARLY)

    def _shown(self, name: str, ref: SecretRef | None) -> SecretValue:
        if ref is None:
            raise SourceFailure(f"[secrets.vault] names no {name}", f"add {name}")
        return self._resolve(ref)

    def _call(self, method: str, path: str, *, token: SecretValue | None = None, body: bytes = b"") -> Answer:
        # Vault's agents and proxies ask for this header, which no redirected browser or server sends.
        headers = {"x-vault-request": "true"}
        if token is not None:
            headers["x-vault-token"] = token.reveal()
        if self._settings.namespace is not None:
            headers["x-vault-namespace"] = self._settings.namespace
        if body:
            headers["content-type"] = "application/json"
        return ask(self._place, method, path, headers=headers, body=body)


def _good(answer: Answer, path: str) -> Mapping[str, Any]:
    """The body of a success. Raises SourceFailure for everything else, saying what an operator can do."""
    status = answer.status
    if status == 200:
        return _object(answer.json())
    if status == 404:
        raise SourceFailure(
            f"Vault has no such secret, or no such version of it: {path}",
            "check path, version and namespace; in a KV v2 store `data` stands after the mount",
            withdrawn=True,
        )
    if status == 403:
        raise SourceFailure(f"Vault denies {path}", "give the gateway's policy the capability read there")
    if status == 429:
        raise SourceFailure("Vault limits the rate of calls", "raise the quota, or read less often", silent=True)
    if status == 503:
        raise SourceFailure("Vault is sealed or in maintenance", "unseal it", silent=True)
    if status >= 500:
        raise SourceFailure(f"Vault failed with status {status}", "look at Vault's own log", silent=True)
    raise SourceFailure(f"Vault answered {path} with status {status}", "check path and mount in the reference")


def _versioned(data: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = data.get("metadata")
    if not isinstance(metadata, dict) or "data" not in data:
        raise SourceFailure(
            "Vault's answer is not one of a KV v2 store", "for a KV v1 store write its path without `data`"
        )
    if data["data"] is None or metadata.get("destroyed") is True:
        raise SourceFailure("this version of the secret was deleted", "write a new version", withdrawn=True)
    return _object(data["data"])


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _unreadable("a secret")
    return value


def _unreadable(what: str) -> SourceFailure:
    return SourceFailure(f"Vault's answer about {what} is not what its API says", "check that the address is Vault's")
