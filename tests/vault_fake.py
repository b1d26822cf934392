"""A strict contract fake of HashiCorp Vault and OpenBao, written from the public API documentation.

It is not Vault: what it shows is that we keep to https://developer.hashicorp.com/vault/api-docs (secret/kv/kv-v2,
secret/kv/kv-v1, auth/approle, auth/kubernetes, auth/token) as it is written there.
"""

import itertools
import json
from typing import Any

import msgspec
from tests.http_fake import HttpFake, Request, Said, said

_TIME = "2026-11-21T12:00:00.000000000Z"


class Version(msgspec.Struct):
    data: dict[str, Any]
    deleted: bool = False
    destroyed: bool = False


class Token(msgspec.Struct):
    ttl: int
    """Seconds; 0 = it never ends."""
    renewable: bool = True
    looks_at_itself: bool = True


class VaultFake(HttpFake):
    """Key-value stores `secret/` (v2) and `kv/` (v1); logins at `auth/approle` and `auth/kubernetes`."""

    ROLE_ID = "5d1f6b6e-role-id"
    SECRET_ID = "9c2a7e41-secret-id"
    ROLE = "gateway"
    JWT = "eyJ.service.account"

    def __init__(self, *, namespace: str | None = None) -> None:
        super().__init__()
        self.namespace = namespace
        self.sealed = False
        self.limited = False
        self.login_ttl = 3600
        self.renews = True
        self.denied: set[str] = set()
        """Paths that no policy allows."""
        self.tokens: dict[str, Token] = {"hvs.root": Token(ttl=0, renewable=False)}
        self.versions: dict[str, list[Version]] = {}
        self.plain: dict[str, dict[str, Any]] = {}
        self.logins = 0
        self.renewals = 0
        self.reads = 0
        self._names = itertools.count(1)

    def write(self, path: str, **members: Any) -> None:
        """A new version of a secret in `secret/`."""
        self.versions.setdefault(path, []).append(Version(members))

    def answer(self, request: Request) -> Said:
        if request.headers.get("x-vault-request") != "true":
            return _errors(412, "required Vault header missing")
        if self.limited:
            return _errors(429, 'request path "secret/data": rate limit quota exceeded')
        if self.sealed:
            return _errors(503, "Vault is sealed")
        if request.headers.get("x-vault-namespace") != self.namespace:
            return _errors(404, "no handler for route. route entry not found.")
        path = request.path.removeprefix("/v1/")
        if request.method == "POST":
            return self._post(path, request)
        token = self.tokens.get(request.headers.get("x-vault-token", ""))
        if token is None or path in self.denied:
            return _errors(403, "1 error occurred:\n\t* permission denied\n\n")
        if path == "auth/token/lookup-self":
            if not token.looks_at_itself:
                return _errors(403, "1 error occurred:\n\t* permission denied\n\n")
            facts = {"ttl": token.ttl, "renewable": token.renewable, "policies": ["default"], "type": "service"}
            return _body(data=facts)
        self.reads += 1
        if path.startswith("secret/data/"):
            return self._versioned(path.removeprefix("secret/data/"), request)
        if path.startswith("kv/"):
            found = self.plain.get(path.removeprefix("kv/"))
            return _errors(404) if found is None else _body(data=found)
        if path.startswith("secret/"):
            warning = f"Invalid path for a versioned K/V secrets engine. Use 'vault kv get {path}'."
            return said(404, {"errors": [], "warnings": [warning]})
        return _errors(404, f'no handler for route "{path}". route entry not found.')

    def _versioned(self, name: str, request: Request) -> Said:
        versions = self.versions.get(name)
        if not versions:
            return _errors(404)
        number = int(request.query.get("version", [str(len(versions))])[0])
        if not 0 < number <= len(versions):
            return _errors(404)
        version = versions[number - 1]
        gone = version.deleted or version.destroyed
        metadata = {
            "created_time": _TIME,
            "custom_metadata": None,
            "deletion_time": _TIME if version.deleted else "",
            "destroyed": version.destroyed,
            "version": number,
        }
        return _body(404 if gone else 200, data={"data": None if gone else version.data, "metadata": metadata})

    def _post(self, path: str, request: Request) -> Said:
        try:
            body = json.loads(request.body)
        except ValueError:
            return _errors(400, "error parsing JSON")
        if path == "auth/approle/login":
            if body != {"role_id": self.ROLE_ID, "secret_id": self.SECRET_ID}:
                return _errors(400, "invalid role or secret ID")
            return self._granted()
        if path == "auth/kubernetes/login":
            if body != {"role": self.ROLE, "jwt": self.JWT}:
                return _errors(403, "permission denied")
            return self._granted()
        if path == "auth/token/renew-self":
            name = request.headers.get("x-vault-token", "")
            token = self.tokens.get(name)
            if token is None:
                return _errors(403, "permission denied")
            if not (token.renewable and self.renews):
                return _errors(400, "lease is not renewable")
            self.renewals += 1
            return self._auth(name, token)
        return _errors(404, f'no handler for route "{path}". route entry not found.')

    def _granted(self) -> Said:
        self.logins += 1
        name = f"hvs.login-{next(self._names)}"
        self.tokens[name] = Token(ttl=self.login_ttl)
        return self._auth(name, self.tokens[name])

    def _auth(self, name: str, token: Token) -> Said:
        return said(
            200,
            {
                "request_id": "5f1a",
                "lease_id": "",
                "lease_duration": 0,
                "data": None,
                "auth": {
                    "client_token": name,
                    "accessor": "acc",
                    "policies": ["default"],
                    "lease_duration": token.ttl,
                    "renewable": token.renewable,
                },
            },
        )


def _body(status: int = 200, **members: Any) -> Said:
    return said(
        status, {"request_id": "5f1a", "lease_id": "", "renewable": False, "lease_duration": 0, "auth": None, **members}
    )


def _errors(status: int, *errors: str) -> Said:
    return said(status, {"errors": list(errors)})
