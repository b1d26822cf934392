"""AWS Signature Version 4 of a request whose body is at hand.

After https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html, without what no call
of ours has: a query, or a path other than one slash.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from securellm.secrets.value import SecretValue

_ALGORITHM = "AWS4-HMAC-SHA256"


class AwsKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Credentials of AWS."""

    access_key_id: str
    secret_access_key: SecretValue
    session_token: SecretValue | None = None
    ends_us: int | None = None
    """Microseconds since the Unix epoch; None = they last until their place holds others."""


def signed(
    method: str,
    *,
    host: str,
    headers: Mapping[str, str],
    body: bytes,
    keys: AwsKeys,
    region: str,
    service: str,
    now_us: int,
) -> dict[str, str]:
    """All headers of the request but Host, which must be sent as `host`. Names in `headers` are in lower case."""
    moment = datetime.fromtimestamp(now_us / 1_000_000, UTC)
    stamp, day = moment.strftime("%Y%m%dT%H%M%SZ"), moment.strftime("%Y%m%d")
    sent = {**headers, "x-amz-date": stamp}
    if keys.session_token is not None:
        sent["x-amz-security-token"] = keys.session_token.reveal()
    covered = sorted({**sent, "host": host}.items())
    names = ";".join(name for name, _ in covered)
    lines = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in covered)
    canonical = f"{method}\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{day}/{region}/{service}/aws4_request"
    to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + keys.secret_access_key.reveal().encode()
    for part in (day, region, service, "aws4_request", to_sign):
        key = hmac.digest(key, part.encode(), "sha256")
    shown = f"Credential={keys.access_key_id}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return {**sent, "authorization": f"{_ALGORITHM} {shown}"}
