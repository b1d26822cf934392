"""What the installation's own tables must fulfil beyond their grammar: listeners, storage, secrets, issuers."""

import re
import ssl

from securellm.bootstrap.addresses import data_folder, is_private
from securellm.bootstrap.review import SHORT_KEY, Review
from securellm.identity import flaws_of
from securellm.secrets import header_safe
from securellm.secrets.settings import GcpSettings, VaultSettings
from securellm.settings import FilePath, Listen, SecretRef, is_loopback
from securellm.settings.fields import FieldError
from securellm.settings.locator import Path as Place
from securellm.settings.references import LOCAL
from securellm.storage import is_postgres

_HEX32 = re.compile(r"[0-9a-f]{64}", re.ASCII)


def check_installation(review: Review) -> None:
    """Look at all but providers, models, tenants and keys."""
    review.dotenv()
    _check_server(review)
    _check_storage(review)
    _check_secrets(review)
    _check_security(review)
    _check_identity(review)


def _check_server(review: Review) -> None:
    server = review.config.server
    if server.tls is not None:
        _check_certificate(review, ("server", "tls"), server.tls.cert, server.tls.key)
    _check_listener(review, ("server", "listen"), server.listen)
    if server.admin_listen is None:
        return
    _check_listener(review, ("server", "admin_listen"), server.admin_listen)
    if server.admin_listen == server.listen and server.listen.port:
        review.refuse(("server", "admin_listen"), "is the address of `listen`", "choose another port")


def _check_listener(review: Review, path: Place, listen: Listen) -> None:
    server = review.config.server
    if listen.loopback or server.tls is not None or review.broken(("server", "tls")):
        return
    if server.insecure:
        review.warn(path, "other machines reach it without TLS", "keep it behind a proxy that serves TLS")
    else:
        review.refuse(
            path,
            "other machines would reach it without TLS",
            "set [server.tls] cert and key, listen on 127.0.0.1, or set insecure = true behind a TLS proxy",
        )


def _check_certificate(review: Review, path: Place, cert: FilePath, key: FilePath) -> None:
    both = [review.file((*path, "cert"), cert), review.file((*path, "key"), key)]
    if not all(both):
        return
    try:
        # An empty password makes an encrypted key an error; without one OpenSSL would ask on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(review.base / cert, review.base / key, password="")
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or "not PEM"
        review.refuse(
            (*path, "cert"),
            f"cannot be used with its key: {str(why).lower().replace('_', ' ')}",
            "name a PEM certificate and the unencrypted PEM key that belongs to it",
        )


def _check_storage(review: Review) -> None:
    storage = review.config.storage
    try:
        data_folder(storage.url, review.base, beside=storage.data_dir)
    except FieldError as error:
        review.refuse(("storage", "url"), error.reason, error.remedy)
        return
    if not is_postgres(storage.url):
        for name, value in (("password", storage.password), ("data_dir", storage.data_dir)):
            if value is not None:
                review.refuse(("storage", name), "has no meaning for a folder of SQLite files", "leave it out")
        return
    review.secret(("storage", "password"), storage.password)
    if review.config.security.pepper is None:
        review.refuse(
            ("security", "pepper"),
            "missing: all gateways on one server recognise the same keys, so they share one pepper",
            'make one with openssl rand -hex 32, and add pepper = "env:NAME" or "file:PATH" under [security]',
        )
    if not is_private(storage.url):
        review.warn(
            ("storage", "url"),
            "what is stored may cross the network in clear, or to somebody else's server",
            "add ?sslmode=verify-full&sslrootcert=FILE to the address",
        )


def _check_secrets(review: Review) -> None:
    secrets = review.config.secrets
    if secrets.max_age < secrets.refresh:
        review.refuse(("secrets", "max_age"), "is shorter than `refresh`", "a credential must live to its next reading")
    if secrets.vault is not None:
        _check_vault(review, ("secrets", "vault"), secrets.vault)
    if secrets.aws is not None and secrets.aws.endpoint is not None:
        _check_manager(review, ("secrets", "aws", "endpoint"), secrets.aws.endpoint)
    if secrets.gcp is not None:
        _check_gcp(review, ("secrets", "gcp"), secrets.gcp)
    for name, manager in (("vault", secrets.vault), ("aws", secrets.aws), ("gcp", secrets.gcp)):
        if manager is not None and manager.ca_file is not None:
            review.file(("secrets", name, "ca_file"), manager.ca_file)


def _check_vault(review: Review, path: Place, vault: VaultSettings) -> None:
    _check_manager(review, (*path, "address"), vault.address)
    shown = {"token": vault.token, "role_id": vault.role_id, "secret_id": vault.secret_id, "jwt": vault.jwt}
    for name in {"token": ("token",), "approle": ("role_id", "secret_id"), "kubernetes": ("jwt",)}[vault.auth]:
        _check_opener(review, (*path, name), shown[name], needed=f'auth = "{vault.auth}"')
    if vault.auth == "kubernetes" and vault.role is None:
        review.refuse((*path, "role"), 'missing: auth = "kubernetes" needs it', "add the name of the role")


def _check_gcp(review: Review, path: Place, gcp: GcpSettings) -> None:
    _check_manager(review, (*path, "token_endpoint"), gcp.token_endpoint)
    if gcp.endpoint is not None:
        _check_manager(review, (*path, "endpoint"), gcp.endpoint)
    if gcp.auth == "service-account":
        _check_opener(review, (*path, "service_account"), gcp.service_account, needed='auth = "service-account"')


def _check_manager(review: Review, path: Place, address: str) -> None:
    target = review.address(path, address, remedy='write an address such as "https://vault.example.com:8200"')
    if target is not None and target.scheme == "http" and not is_loopback(target.host):
        review.refuse(path, "secrets would cross the network without TLS", "use https://")


def _check_opener(review: Review, path: Place, ref: SecretRef | None, *, needed: str) -> None:
    """What opens a secret manager is kept on this machine."""
    if ref is None:
        review.refuse(path, f"missing: {needed} needs it", f'add {path[-1]} = "file:PATH"')
    elif ref.scheme not in LOCAL and not review.broken(path):
        review.refuse(path, "is itself kept in a secret manager", 'write "env:NAME", "file:PATH" or "keyring:…"')


def _check_identity(review: Review) -> None:
    for flaw in flaws_of(review.config.identity):
        review.refuse(flaw.place, flaw.reason, flaw.remedy)
    for index, issuer in enumerate(review.config.identity.issuers):
        path: Place = ("identity", "issuers", index)
        if issuer.ca_file is not None:
            review.file((*path, "ca_file"), issuer.ca_file)
        if issuer.login is not None:
            review.header_secret(
                (*path, "login", "client_secret"),
                issuer.login.client_secret,
                remedy="store the client's secret alone, in one line",
            )


def _check_security(review: Review) -> None:
    security = review.config.security
    for name, ref in (("pepper", security.pepper), ("audit_key", security.audit_key)):
        secret = review.secret(("security", name), ref)
        if secret is not None and _HEX32.fullmatch(secret.reveal()) is None:
            review.refuse(("security", name), f"{ref} does not hold 64 hex digits", "make one: openssl rand -hex 32")
    token = review.secret(("security", "admin_token"), security.admin_token)
    if token is not None and (len(token.reveal()) < SHORT_KEY or not header_safe(token)):
        review.refuse(
            ("security", "admin_token"),
            f"{security.admin_token} does not hold {SHORT_KEY} or more printable ASCII characters",
            "make one: openssl rand -hex 32",
        )
