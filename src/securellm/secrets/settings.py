"""Where secrets are kept: the keys of `[secrets]`."""

from typing import Annotated, Literal

import msgspec

from securellm.settings import Field, FilePath, Seconds, SecretRef

_TIMEOUT = Field(help="how long one call may take, from the connection to the last byte", ge=0.05, le=60)


class VaultSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """HashiCorp Vault or OpenBao, for `vault:` references."""

    address: Annotated[str, Field(help="where it is: `https://host:8200`; plain http on this machine only")]
    auth: Annotated[Literal["token", "approle", "kubernetes"], Field(help="how the gateway shows who it is")] = "token"
    token: Annotated[SecretRef | None, Field(help="for `token`: where the token is")] = None
    role_id: Annotated[SecretRef | None, Field(help="for `approle`: where the role id is")] = None
    secret_id: Annotated[SecretRef | None, Field(help="for `approle`: where the secret id is")] = None
    role: Annotated[
        str | None,
        Field(help="for `kubernetes`: name of the role", pattern=r"[A-Za-z0-9_.-]{1,128}", shape="a role's name"),
    ] = None
    jwt: Annotated[SecretRef, Field(help="for `kubernetes`: where the service account's token is")] = SecretRef(
        "file", "/var/run/secrets/kubernetes.io/serviceaccount/token"
    )
    mount: Annotated[
        str | None,
        Field(
            help="where the auth method is mounted (default: its own name)",
            pattern=r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}){0,7}",
            shape="a path of letters, digits and . _ -",
        ),
    ] = None
    namespace: Annotated[
        str | None,
        Field(help="namespace of every call", pattern=r"[A-Za-z0-9_./-]{1,256}", shape="a path of names"),
    ] = None
    ca_file: Annotated[
        FilePath | None, Field(help="PEM file of the authorities that may sign its certificate (default: the system's)")
    ] = None
    timeout: Annotated[Seconds, _TIMEOUT] = Seconds(5.0)


class AwsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """AWS Secrets Manager, for `aws:` references."""

    region: Annotated[
        str | None,
        Field(
            help="region of the secrets (default: AWS_REGION, else AWS_DEFAULT_REGION)",
            pattern=r"[a-z]{2,4}(-[a-z]{2,16}){1,3}-[0-9]{1,2}",
            shape="a region such as sa-east-1",
        ),
    ] = None
    endpoint: Annotated[
        str | None, Field(help="address of the service (default: the region's); plain http on this machine only")
    ] = None
    auth: Annotated[
        Literal["auto", "env", "web-identity", "file", "container", "instance"],
        Field(help="where AWS credentials are: `auto` takes the first that is set up, in this order"),
    ] = "auto"
    ca_file: Annotated[
        FilePath | None, Field(help="PEM file of the authorities that may sign certificates (default: the system's)")
    ] = None
    timeout: Annotated[Seconds, _TIMEOUT] = Seconds(5.0)


class GcpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Google Cloud's Secret Manager, for `gcp:` references."""

    endpoint: Annotated[
        str | None, Field(help="address of the service (default: Google's, regional where the secret is)")
    ] = None
    auth: Annotated[Literal["metadata", "service-account"], Field(help="how the gateway shows who it is")] = "metadata"
    service_account: Annotated[
        SecretRef | None, Field(help="for `service-account`: where the JSON key of the account is")
    ] = None
    token_endpoint: Annotated[
        str, Field(help="for `service-account`: where its signed assertion goes; the key file's own is not believed")
    ] = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
    ca_file: Annotated[
        FilePath | None, Field(help="PEM file of the authorities that may sign certificates (default: the system's)")
    ] = None
    timeout: Annotated[Seconds, _TIMEOUT] = Seconds(5.0)


class SecretsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where secrets are kept and how provider credentials stay fresh."""

    refresh: Annotated[Seconds, Field(help="how often every provider credential is read again", ge=1, le=86_400)] = (
        Seconds(60.0)
    )
    max_age: Annotated[
        Seconds,
        Field(help="how long a credential serves while its source cannot confirm it; then calls are refused", ge=1),
    ] = Seconds(3600.0)
    overlap: Annotated[
        Seconds,
        Field(help="how long after a rotation the credential before is tried where the new one is refused", ge=0),
    ] = Seconds(300.0)
    api_references: Annotated[
        tuple[str, ...],
        Field(
            help="references that a provider declared through the admin API may name, `*` for any text; `file:` bounds "
            "its `ca_file`, `client_cert` and `client_key` too; the gateway's own secrets never are among them",
            pattern=r"(env|file|keyring|vault|aws|gcp):[ -~]{1,512}",
            shape='references such as "env:*_API_KEY" or "file:/run/secrets/llm/*"',
        ),
    ] = ("env:*_API_KEY", "env:*_CREDENTIAL", "keyring:securellm/*", "vault:*", "aws:*", "gcp:*")
    vault: Annotated[VaultSettings | None, Field(help="HashiCorp Vault or OpenBao")] = None
    aws: Annotated[AwsSettings | None, Field(help="AWS Secrets Manager")] = None
    gcp: Annotated[GcpSettings | None, Field(help="Google Cloud Secret Manager")] = None
