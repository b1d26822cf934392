"""Where a secret is: one reference type, six schemes, each written in one way.

No reason quotes what it refuses: that may be a secret somebody put in the wrong place.
"""

import re
from typing import NamedTuple

import msgspec


class SecretRef(msgspec.Struct, frozen=True):
    """Where a secret is, as `SCHEMES` writes it. Never the secret."""

    scheme: str
    value: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.value}"


class VaultPlace(NamedTuple):
    """A member of a secret in Vault's or OpenBao's key-value store."""

    path: str
    """As the API has it: in a store with versions (KV v2) `data` stands after the mount."""
    member: str
    version: int | None
    """None = the newest. Only where the store has versions."""

    @property
    def versioned(self) -> bool:
        """Whether the path is of a store with versions: `data` stands in it, neither first nor last."""
        return "data" in self.path.split("/")[1:-1]


class AwsPlace(NamedTuple):
    """A secret of AWS Secrets Manager, or one member of the JSON object it holds."""

    secret: str
    """Its name or its ARN."""
    member: str | None
    stage: str | None
    """None = AWSCURRENT."""

    @property
    def region(self) -> str | None:
        """The region that an ARN names."""
        return self.secret.split(":")[3] if self.secret.startswith("arn:") else None


class GcpPlace(NamedTuple):
    """A version of a secret of Google Cloud's Secret Manager, or one member of the JSON object it holds."""

    name: str
    member: str | None

    @property
    def location(self) -> str | None:
        """Of a regional secret."""
        parts = self.name.split("/")
        return parts[3] if parts[2] == "locations" else None


class KeyringPlace(NamedTuple):
    """An entry of the operating system's keyring."""

    service: str
    user: str


class NoReference(ValueError):
    """A text that names no place of a secret."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


SCHEMES = {
    "env": '"env:NAME"',
    "file": '"file:PATH"',
    "keyring": '"keyring:SERVICE/USER"',
    "vault": '"vault:secret/data/openai#api_key", "@3" at its end for version 3 (KV v1: "vault:kv/openai#api_key")',
    "aws": '"aws:NAME_OR_ARN", "aws:NAME#JSON_KEY" or "aws:NAME#JSON_KEY@VERSION_STAGE"',
    "gcp": '"gcp:projects/PROJECT/secrets/NAME/versions/latest", with "#JSON_KEY" at its end for one of several',
}
"""How each scheme is written."""

LOCAL = frozenset({"env", "file", "keyring"})
"""Schemes that ask nobody on the network."""

_MEMBER = r"[A-Za-z0-9_.-]{1,128}"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_KEYRING = re.compile(r"([^\x00-\x1f\x7f]{1,255})/([^/\x00-\x1f\x7f]{1,255})")
_VAULT = re.compile(
    rf"([A-Za-z0-9_.~-]{{1,128}}(?:/[A-Za-z0-9_.~-]{{1,128}}){{1,15}})#({_MEMBER})(?:@([1-9][0-9]{{0,8}}))?", re.ASCII
)
_ARN = r"arn:aws[a-z-]{0,16}:secretsmanager:[a-z0-9-]{1,32}:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]{1,519}"
_AWS = re.compile(
    rf"({_ARN}|[A-Za-z0-9/_+=.@-]{{1,512}})(?:#({_MEMBER})?(?:@([A-Za-z0-9/_+=.-]{{1,256}}))?)?", re.ASCII
)
_GCP = re.compile(
    r"(projects/[a-z0-9][a-z0-9.:-]{0,99}(?:/locations/[a-z0-9-]{1,32})?/secrets/[A-Za-z0-9_-]{1,255}"
    rf"/versions/(?:[1-9][0-9]{{0,8}}|[A-Za-z][A-Za-z0-9_-]{{0,62}}))(?:#({_MEMBER}))?",
    re.ASCII,
)


def parse_reference(text: str) -> SecretRef:
    """The reference written in `text`. Raises NoReference."""
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in SCHEMES:
        raise NoReference(
            "a literal secret stands in the file",
            'move it to an environment variable or a file, write "env:NAME" or "file:PATH" here '
            f"(or one of {', '.join(f'{name}:' for name in SCHEMES if name not in ('env', 'file'))}), "
            "and replace the secret: it has been on disk",
        )
    if scheme == "env" and _VARIABLE.fullmatch(rest) is None:
        raise NoReference("what follows env: is not the name of an environment variable", f"write {SCHEMES['env']}")
    if scheme == "file" and (not rest or "\0" in rest):
        raise NoReference("what follows file: is not a path", f"write {SCHEMES['file']}")
    ref = SecretRef(scheme, rest)
    match scheme:
        case "keyring":
            keyring_place(ref)
        case "vault":
            vault_place(ref)
        case "aws":
            aws_place(ref)
        case "gcp":
            gcp_place(ref)
    return ref


def keyring_place(ref: SecretRef) -> KeyringPlace:
    """Raises NoReference. The user is what follows the last slash."""
    return KeyringPlace(*_parts(_KEYRING, ref, "is not SERVICE/USER"))


def vault_place(ref: SecretRef) -> VaultPlace:
    """Raises NoReference."""
    path, member, version = _parts(_VAULT, ref, "is not PATH#KEY")
    place = VaultPlace(path, member, int(version) if version else None)
    if {"", ".", ".."}.intersection(path.split("/")):
        raise NoReference("what follows vault: has . or .. in its path", f"write {SCHEMES['vault']}")
    if place.version is not None and not place.versioned:
        raise NoReference("a version is asked for where the store has none (KV v1)", f"write {SCHEMES['vault']}")
    return place


def aws_place(ref: SecretRef) -> AwsPlace:
    """Raises NoReference."""
    secret, member, stage = _parts(_AWS, ref, "is not NAME#JSON_KEY@VERSION_STAGE")
    return AwsPlace(secret, member or None, stage or None)


def gcp_place(ref: SecretRef) -> GcpPlace:
    """Raises NoReference."""
    name, member = _parts(_GCP, ref, "is not the name of a version of a secret")
    return GcpPlace(name, member or None)


def _parts(shape: re.Pattern[str], ref: SecretRef, reason: str) -> tuple[str, ...]:
    match = shape.fullmatch(ref.value)
    if match is None:
        raise NoReference(f"what follows {ref.scheme}: {reason}", f"write {SCHEMES[ref.scheme]}")
    return tuple(part or "" for part in match.groups())
