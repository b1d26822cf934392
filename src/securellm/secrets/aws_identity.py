"""Who the gateway is to AWS: the places where SDKs look for credentials, in their order, each asked strictly.

After https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html. Not here: profiles that assume a
role, single sign-on, and programs that print credentials. The instance's own service is spoken to in version 2 only.
"""

import configparser
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from securellm.secrets.exchange import Answer, ask, place
from securellm.secrets.model import SourceFailure
from securellm.secrets.signing import AwsKeys
from securellm.secrets.value import SecretValue

_ANSWERING = "http://169.254.169.254"
_TASKS = "http://169.254.170.2"
_OWN_MACHINE = frozenset({"169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
"""Where AWS answers a container, besides the loopback: plain http is for these alone."""
_SESSION = "securellm-bridge"
_ID = re.compile(r"[A-Z0-9]{16,128}", re.ASCII)
_IN_XML = r"<{0}>\s*([A-Za-z0-9+/=:.-]{{1,8192}})\s*</{0}>"


class AwsIdentity:
    """Finds credentials of AWS. Blocks; raises SourceFailure when the place that is set up gives none."""

    def __init__(
        self, auth: str, *, environ: Mapping[str, str], region: str, timeout: float, ca_file: Path | None
    ) -> None:
        self._auth = auth
        self._environ = environ
        self._region = region
        self._timeout = timeout
        self._ca_file = ca_file

    def find(self) -> AwsKeys:
        """From the place that is named, or by `auto` from the first that is set up, which is not passed over."""
        ways: dict[str, tuple[bool, Callable[[], AwsKeys]]] = {
            "env": (self._has("AWS_ACCESS_KEY_ID"), self._from_environment),
            "web-identity": (self._has("AWS_WEB_IDENTITY_TOKEN_FILE"), self._from_web_identity),
            "file": (self._file().is_file(), self._from_file),
            "container": (
                self._has("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or self._has("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
                self._from_container,
            ),
            "instance": (self._environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true", self._from_instance),
        }
        for name, (present, way) in ways.items():
            if name == self._auth or (self._auth == "auto" and present):
                return way()
        raise SourceFailure("no AWS credentials are set up", "set AWS_ACCESS_KEY_ID, or give the machine a role")

    def _has(self, name: str) -> bool:
        return bool(self._environ.get(name))

    def _needed(self, name: str) -> str:
        value = self._environ.get(name)
        if not value:
            raise SourceFailure(f"{name} is not set", f"set {name}, or choose another [secrets.aws] auth")
        return value

    # The ways

    def _from_environment(self) -> AwsKeys:
        token = self._environ.get("AWS_SESSION_TOKEN")
        return _keys(
            "the environment", self._needed("AWS_ACCESS_KEY_ID"), self._needed("AWS_SECRET_ACCESS_KEY"), token or None
        )

    def _file(self) -> Path:
        named = self._environ.get("AWS_SHARED_CREDENTIALS_FILE")
        return Path(named) if named else Path(self._environ.get("HOME") or "/nonexistent") / ".aws" / "credentials"

    def _from_file(self) -> AwsKeys:
        path, profile = self._file(), self._environ.get("AWS_PROFILE") or "default"
        reader = configparser.RawConfigParser(interpolation=None, strict=True)
        try:
            reader.read_string(_text_of(path, "the credentials file"))
            section = dict(reader.items(profile))
        except configparser.NoSectionError:
            raise SourceFailure(f"{path} has no profile of that name", "correct AWS_PROFILE") from None
        except configparser.Error:
            raise SourceFailure(f"{path} is not a credentials file", "write [default] and its keys") from None
        return _keys(
            str(path),
            section.get("aws_access_key_id"),
            section.get("aws_secret_access_key"),
            section.get("aws_session_token") or None,
        )

    def _from_web_identity(self) -> AwsKeys:
        token = _text_of(Path(self._needed("AWS_WEB_IDENTITY_TOKEN_FILE")), "the web identity token").strip()
        form = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": self._needed("AWS_ROLE_ARN"),
            "RoleSessionName": self._environ.get("AWS_ROLE_SESSION_NAME") or _SESSION,
            "WebIdentityToken": token,
        }
        suffix = "amazonaws.com.cn" if self._region.startswith("cn-") else "amazonaws.com"
        address = self._environ.get("AWS_ENDPOINT_URL_STS") or f"https://sts.{self._region}.{suffix}"
        answer = self._ask(
            "AWS STS",
            "POST",
            address,
            "/",
            {"content-type": "application/x-www-form-urlencoded", "accept": "application/xml"},
            body=urlencode(form).encode("ascii"),
        )
        text = answer.body.decode("utf-8", "replace")
        if answer.status != 200:
            raise SourceFailure(
                "AWS STS refused the web identity", "check the role's trust policy and that the token is current"
            )
        found = {
            name: match[1]
            for name in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
            if (match := re.search(_IN_XML.format(name), text)) is not None
        }
        return _keys(
            "AWS STS",
            found.get("AccessKeyId"),
            found.get("SecretAccessKey"),
            found.get("SessionToken"),
            ends=found.get("Expiration"),
            lasting=False,
        )

    def _from_container(self) -> AwsKeys:
        relative = self._environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        whole = f"{_TASKS}{relative}" if relative else self._needed("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        try:
            parts = urlsplit(whole)
            host = parts.hostname or ""
        except ValueError:
            parts, host = urlsplit(""), ""
        if not (parts.scheme == "https" or (parts.scheme == "http" and _is_own_machine(host))):
            raise SourceFailure(
                "the container credentials' address is neither https nor this machine's own",
                "correct AWS_CONTAINER_CREDENTIALS_FULL_URI",
            )
        headers = {}
        token_file = self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        shown = self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
        if token_file:
            shown = _text_of(Path(token_file), "the container authorization token").strip()
        if shown:
            headers["authorization"] = shown
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        answer = self._ask("the container's credentials", "GET", f"{parts.scheme}://{parts.netloc}", path, headers)
        return self._of_json("the container's credentials", answer)

    def _from_instance(self) -> AwsKeys:
        name, address = "the instance's metadata", self._environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _ANSWERING
        base = "/latest/meta-data/iam/security-credentials/"
        ttl = {"x-aws-ec2-metadata-token-ttl-seconds": "300"}
        token = self._ask(name, "PUT", address, "/latest/api/token", ttl)
        if token.status != 200:
            raise SourceFailure(f"{name} gives no token (IMDSv2)", "allow version 2; containers need hop limit 2")
        headers = {"x-aws-ec2-metadata-token": token.body.decode("latin-1")}
        roles = self._ask(name, "GET", address, base, headers)
        role = roles.body.decode("latin-1").split("\n")[0].strip()
        if roles.status != 200 or re.fullmatch(r"[A-Za-z0-9+=,.@_-]{1,64}", role, re.ASCII) is None:
            raise SourceFailure("this instance has no role", "attach an instance profile")
        return self._of_json(name, self._ask(name, "GET", address, base + role, headers))

    # What they share

    def _ask(
        self, name: str, method: str, address: str, path: str, headers: Mapping[str, str], *, body: bytes = b""
    ) -> Answer:
        try:
            where = place(
                name, address, timeout=self._timeout, ca_file=self._ca_file, local=_is_own_machine(_host(address))
            )
        except ValueError as error:
            raise SourceFailure(f"the address of {name} cannot be used: {error}", "correct it") from None
        return ask(where, method, path, headers=headers, body=body)

    def _of_json(self, name: str, answer: Answer) -> AwsKeys:
        given = answer.json()
        if answer.status != 200 or not isinstance(given, dict) or given.get("Code", "Success") != "Success":
            raise SourceFailure(f"{name} gave no credentials", "check the role that the workload was given")
        return _keys(
            name,
            given.get("AccessKeyId"),
            given.get("SecretAccessKey"),
            given.get("Token"),
            ends=given.get("Expiration"),
            lasting=False,
        )


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _is_own_machine(host: str) -> bool:
    if host in _OWN_MACHINE or host in ("169.254.169.254", "fd00:ec2::254", "localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _keys(
    where: str, key_id: object, secret: object, token: object, *, ends: object = None, lasting: bool = True
) -> AwsKeys:
    """Credentials as one of the ways gives them. Raises SourceFailure unless they are whole."""
    texts = (key_id, secret) if token is None and lasting else (key_id, secret, token)
    whole = all(isinstance(text, str) and text.isascii() and text.isprintable() and text for text in texts)
    if not whole or _ID.fullmatch(str(key_id)) is None:
        raise SourceFailure(f"{where} holds no whole AWS credentials", "give key id, secret and, where due, token")
    ends_us = None
    if not lasting:
        try:
            moment = datetime.fromisoformat(str(ends))
            ends_us = int(moment.timestamp() * 1_000_000) if moment.tzinfo is not None else None
        except (ValueError, OverflowError):
            ends_us = None
        if ends_us is None:
            raise SourceFailure(f"{where} does not say until when its credentials last", "check what answers there")
    return AwsKeys(
        access_key_id=str(key_id),
        secret_access_key=SecretValue(str(secret)),
        session_token=None if token is None else SecretValue(str(token)),
        ends_us=ends_us,
    )


def _text_of(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(65_537)
    except OSError as error:
        why = error.strerror.lower() if error.strerror else "cannot be read"
        raise SourceFailure(f"{what} cannot be read: {why}", "make it readable by the gateway's user") from None
    try:
        if len(content) > 65_536:
            raise ValueError
        return content.decode("utf-8")
    except ValueError:
        raise SourceFailure(f"{what} is not a short text", "check the file") from None


def decoded_error(answer: Answer) -> str:
    """The name of an error of AWS's JSON protocol; empty where there is none."""
    said = answer.json()
    name = said.get("__type") if isinstance(said, dict) else None
    return name.rpartition("#")[2].partition(":")[0] if isinstance(name, str) else ""


def question(**members: str | None) -> bytes:
    """A body of AWS's JSON protocol, without what is None."""
    return json.dumps({name: value for name, value in members.items() if value is not None}).encode("ascii")
