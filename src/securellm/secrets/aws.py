"""Secrets in AWS Secrets Manager.

After https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

from securellm.core.clock import Clock
from securellm.secrets.aws_identity import AwsIdentity, decoded_error, question
from securellm.secrets.exchange import Answer, Place, ask, place
from securellm.secrets.model import SourceFailure
from securellm.secrets.settings import AwsSettings
from securellm.secrets.signing import AwsKeys, signed
from securellm.settings.references import AwsPlace

_SERVICE = "secretsmanager"
_EARLY_US = 300_000_000
"""How long before their end credentials are used no more."""
_STALE_KEYS = frozenset({"ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId"})
_REMEDIES = {
    "AccessDeniedException": ("AWS denies this secret", "allow secretsmanager:GetSecretValue on it"),
    "DecryptionFailure": ("AWS could not decrypt this secret", "allow kms:Decrypt on its key"),
    "InvalidSignatureException": ("AWS did not accept our signature", "check the secret access key and the clock"),
    "ExpiredTokenException": ("the AWS credentials have expired", "give the gateway newer ones"),
    "UnrecognizedClientException": ("AWS does not know these credentials", "check key id, token and region"),
    "InvalidClientTokenId": ("AWS does not know these credentials", "check key id, token and region"),
}


class SecretsManager:
    """Reads secrets, with credentials that are found anew when they end or are refused. Not thread-safe."""

    def __init__(self, settings: AwsSettings, *, base: Path, clock: Clock, environ: Mapping[str, str]) -> None:
        """ValueError when region or endpoint cannot be used."""
        region = settings.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
        if not region:
            raise ValueError("no region is set: add region, or set AWS_REGION")
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        ca_file = None if settings.ca_file is None else base / settings.ca_file
        address = settings.endpoint or f"https://{_SERVICE}.{region}.{suffix}"
        self._place: Place = place("AWS Secrets Manager", address, timeout=settings.timeout, ca_file=ca_file)
        self._region = region
        self._clock = clock
        self._identity = AwsIdentity(
            settings.auth, environ=environ, region=region, timeout=settings.timeout, ca_file=ca_file
        )
        self._keys: AwsKeys | None = None

    def read(self, wanted: AwsPlace) -> str:
        """The secret's text at a stage. Blocks. Raises SourceFailure."""
        if wanted.region not in (None, self._region):
            raise SourceFailure(
                f"the secret is in region {wanted.region}, and [secrets.aws] is for {self._region}",
                "name a secret of this region, or set the region",
            )
        kept = self._keys is not None
        answer = self._ask(wanted)
        if answer.status != 200 and decoded_error(answer) in _STALE_KEYS and kept:
            self._keys = None
            answer = self._ask(wanted)
        if answer.status != 200:
            raise self._refused(answer)
        return _text(answer)

    def _ask(self, wanted: AwsPlace) -> Answer:
        keys = self._keys
        if keys is None or keys.ends_us is None or self._clock.now_us() > keys.ends_us - _EARLY_US:
            keys = self._identity.find()
        self._keys = keys
        body = question(SecretId=wanted.secret, VersionStage=wanted.stage)
        headers = signed(
            "POST",
            host=self._place.target.host_header,
            headers={"content-type": "application/x-amz-json-1.1", "x-amz-target": f"{_SERVICE}.GetSecretValue"},
            body=body,
            keys=keys,
            region=self._region,
            service=_SERVICE,
            now_us=self._clock.now_us(),
        )
        return ask(self._place, "POST", "/", headers=headers, body=body)

    def _refused(self, answer: Answer) -> SourceFailure:
        name = decoded_error(answer)
        if name in _STALE_KEYS or name in ("AccessDeniedException", "InvalidSignatureException"):
            self._keys = None
        if name == "ResourceNotFoundException":
            return SourceFailure(
                "AWS has no such secret, or none at this stage", "check name, region and stage", withdrawn=True
            )
        if name == "InvalidRequestException":
            return SourceFailure(
                "AWS says that this secret is not in a state to be read, such as marked for deletion",
                "restore it, or name another",
                withdrawn=True,
            )
        if name in _REMEDIES:
            return SourceFailure(*_REMEDIES[name])
        busy = answer.status >= 500 or name in ("ThrottlingException", "LimitExceededException")
        what = f"AWS Secrets Manager answered with status {answer.status}"
        return SourceFailure(what, "look at the AWS health dashboard and at the endpoint", silent=busy)


def _text(answer: Answer) -> str:
    given = answer.json()
    if isinstance(given, dict):
        text, binary = given.get("SecretString"), given.get("SecretBinary")
        if isinstance(text, str):
            return text
        if isinstance(binary, str):
            try:
                return base64.b64decode(binary, validate=True).decode("utf-8")
            except (binascii.Error, ValueError):
                raise SourceFailure("the secret's bytes are not UTF-8 text", "store the secret as text") from None
    raise SourceFailure("the answer is not what AWS Secrets Manager's API says", "check the endpoint")
