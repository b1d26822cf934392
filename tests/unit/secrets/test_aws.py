"""Secrets in AWS Secrets Manager: signed as AWS publishes it, read from moto, found by each kind of identity."""

import base64
import json
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from tests.aws_fake import KEYS, AwsMachineFake
from tests.http_fake import HttpFake, Request, Said, said
from tests.unit.clocks import ManualClock

from securellm.core.clock import SystemClock
from securellm.secrets import SecretResolver, SecretUnavailable, SecretValue
from securellm.secrets.settings import AwsSettings, SecretsSettings
from securellm.secrets.signing import AwsKeys, signed
from securellm.settings import Seconds, SecretRef

CANARY = "sk-canary-77ab01c4"
REGION = "sa-east-1"
ENVIRON = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "x" * 40}
SUITE = AwsKeys(access_key_id="AKIDEXAMPLE", secret_access_key=SecretValue("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))
MOMENT = 1_440_938_160_000_000  # 20150830T123600Z, that of AWS's test suite


# Signatures


@pytest.mark.parametrize(
    ("method", "headers", "body", "signature"),
    [
        ("GET", {}, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "POST",
            {"content-type": "application/x-www-form-urlencoded"},
            b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
        (
            "GET",
            {"my-header1": "value4,value1,value3,value2"},
            b"",
            "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
        ),
    ],
    ids=["get-vanilla", "post-vanilla", "post-x-www-form-urlencoded", "get-header-value-order"],
)
def test_the_signatures_that_aws_publishes_are_ours(
    method: str, headers: dict[str, str], body: bytes, signature: str
) -> None:
    sent = signed(
        method,
        host="example.amazonaws.com",
        headers=headers,
        body=body,
        keys=SUITE,
        region="us-east-1",
        service="service",
        now_us=MOMENT,
    )
    assert sent["x-amz-date"] == "20150830T123600Z"
    assert sent["authorization"].endswith(f"Signature={signature}")


@given(
    body=st.binary(max_size=200),
    value=st.text("abc ,/=;:\t", min_size=1, max_size=30).map(str.strip).filter(bool),
    token=st.none() | st.text("abcDEF+/=", min_size=1, max_size=40),
    seconds=st.integers(0, 4_000_000_000),
)
def test_any_signature_is_the_one_that_aws_own_library_makes(
    body: bytes, value: str, token: str | None, seconds: int
) -> None:
    keys = AwsKeys(
        access_key_id="AKIDEXAMPLE",
        secret_access_key=SecretValue("secret/+="),
        session_token=None if token is None else SecretValue(token),
    )
    ours = signed(
        "POST",
        host="localhost:5000",
        headers={"x-amz-target": value},
        body=body,
        keys=keys,
        region=REGION,
        service="secretsmanager",
        now_us=seconds * 1_000_000,
    )
    request = botocore.awsrequest.AWSRequest("POST", "http://localhost:5000/", data=body)
    request.headers["x-amz-target"] = value
    request.headers["X-Amz-Date"] = ours["x-amz-date"]
    if token is not None:
        request.headers["X-Amz-Security-Token"] = token
    theirs = botocore.auth.SigV4Auth(
        botocore.credentials.Credentials("AKIDEXAMPLE", "secret/+=", token), "secretsmanager", REGION
    )
    request.context["timestamp"] = ours["x-amz-date"]
    signature = theirs.signature(theirs.string_to_sign(request, theirs.canonical_request(request)), request)
    assert ours["authorization"].endswith(f"Signature={signature}")


# Secrets Manager, as moto has it


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def manager(moto: str) -> Iterator[Any]:
    """AWS's own client, to put secrets where ours will look."""
    client = boto3.client(
        "secretsmanager",
        region_name=REGION,
        endpoint_url=moto,
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="x",
    )
    yield client
    for secret in client.list_secrets()["SecretList"]:
        client.delete_secret(SecretId=secret["Name"], ForceDeleteWithoutRecovery=True)
    client.close()


def resolver(
    folder: Path, endpoint: str, environ: dict[str, str] = ENVIRON, *, clock: Any = None, **settings: Any
) -> SecretResolver:
    given = {"region": REGION, "endpoint": endpoint, "timeout": Seconds(2.0), **settings}
    return SecretResolver(
        folder, environ, settings=SecretsSettings(aws=AwsSettings(**given)), clock=clock or SystemClock()
    )


def aws(place: str) -> SecretRef:
    return SecretRef("aws", place)


def refused(resolver: SecretResolver, ref: SecretRef) -> SecretUnavailable:
    with pytest.raises(SecretUnavailable) as error:
        resolver.resolve(ref)
    assert CANARY not in "".join(traceback.format_exception(error.value)) + error.value.remedy
    return error.value


@pytest.mark.requirement("SC-1")
def test_a_secret_is_read_whole_or_by_member_by_name_or_by_arn(tmp_path: Path, moto: str, manager: Any) -> None:
    arn = manager.create_secret(Name="llm/openai", SecretString=json.dumps({"api_key": CANARY, "n": 1}))["ARN"]
    manager.create_secret(Name="plain@team", SecretString=f"{CANARY}\n")
    manager.create_secret(Name="bytes", SecretBinary=CANARY.encode())
    asking = resolver(tmp_path, moto)
    for place in ("llm/openai#api_key", f"{arn}#api_key", "plain@team", "bytes", "llm/openai#api_key@AWSCURRENT"):
        assert asking.resolve(aws(place)).reveal() == CANARY
    assert "has no member other" in refused(asking, aws("llm/openai#other")).reason
    assert "is not a string" in refused(asking, aws("llm/openai#n")).reason
    assert "not a JSON object" in refused(asking, aws("plain@team#api_key")).reason


@pytest.mark.requirement("SC-1")
def test_a_rotated_secret_is_seen_and_the_stage_before_can_be_named(tmp_path: Path, moto: str, manager: Any) -> None:
    manager.create_secret(Name="rotated", SecretString="sk-old-000000")
    manager.put_secret_value(SecretId="rotated", SecretString=CANARY)
    asking = resolver(tmp_path, moto)
    assert asking.resolve(aws("rotated")).reveal() == CANARY
    assert asking.resolve(aws("rotated#@AWSPREVIOUS")).reveal() == "sk-old-000000"
    absent = refused(asking, aws("rotated#@AWSPENDING"))
    assert absent.withdrawn


def test_what_is_not_there_or_marked_for_deletion_is_withdrawn(tmp_path: Path, moto: str, manager: Any) -> None:
    manager.create_secret(Name="going", SecretString=CANARY)
    manager.delete_secret(SecretId="going", RecoveryWindowInDays=7)
    asking = resolver(tmp_path, moto)
    assert refused(asking, aws("going")).withdrawn
    assert refused(asking, aws("never-was")).withdrawn
    manager.restore_secret(SecretId="going")


def test_a_secret_of_another_region_is_refused_by_name(tmp_path: Path, moto: str) -> None:
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:openai-AbCdEf"
    assert "is in region us-east-1" in refused(resolver(tmp_path, moto), aws(arn)).reason


# Who the gateway is


class SeenKeys(HttpFake):
    """Secrets Manager that remembers by whose credentials it was asked, and takes only some."""

    def __init__(self) -> None:
        super().__init__()
        self.good = {"ASIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"}

    def answer(self, request: Request) -> Said:
        assert request.headers["x-amz-target"] == "secretsmanager.GetSecretValue"
        if self.keys()[-1] not in self.good:
            return said(400, {"__type": "UnrecognizedClientException", "message": CANARY})
        return said(200, {"Name": "x", "SecretString": CANARY})

    def keys(self) -> list[str]:
        return [each.headers["authorization"].split("Credential=")[1].split("/")[0] for each in self.requests]


@pytest.fixture
def machine() -> Iterator[AwsMachineFake]:
    with AwsMachineFake() as fake:
        yield fake


@pytest.fixture
def seen() -> Iterator[SeenKeys]:
    with SeenKeys() as fake:
        yield fake


@pytest.mark.requirement("SC-1")
def test_an_instance_shows_its_role_by_version_2_only(tmp_path: Path, seen: SeenKeys, machine: AwsMachineFake) -> None:
    environ = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": machine.url, "HOME": str(tmp_path)}
    asking = resolver(tmp_path, seen.url, environ)
    assert asking.resolve(aws("x")).reveal() == CANARY
    assert seen.keys() == [KEYS["AccessKeyId"]]
    assert seen.requests[0].headers["x-amz-security-token"] == KEYS["Token"]
    assert [each.method for each in machine.requests] == ["PUT", "GET", "GET"]
    machine.role = None
    assert "has no role" in refused(resolver(tmp_path, seen.url, environ), aws("x")).reason
    machine.instead = lambda _: Said(403)
    assert "IMDSv2" in refused(resolver(tmp_path, seen.url, environ), aws("x")).reason
    off = {**environ, "AWS_EC2_METADATA_DISABLED": "true"}
    assert "no AWS credentials are set up" in refused(resolver(tmp_path, seen.url, off), aws("x")).reason


@pytest.mark.requirement("SC-1")
def test_a_container_shows_what_its_agent_gives_and_asks_no_other_host(
    tmp_path: Path, seen: SeenKeys, machine: AwsMachineFake
) -> None:
    (tmp_path / "token").write_text(machine.SHOWN)
    environ = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{machine.url}/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
    }
    assert resolver(tmp_path, seen.url, environ).resolve(aws("x")).reveal() == CANARY
    assert seen.keys() == [KEYS["AccessKeyId"]]
    for address in ("http://169.254.169.253/x", "http://example.com/x", "ftp://127.0.0.1/x", "http://[", "//x"):
        elsewhere = {**environ, "AWS_CONTAINER_CREDENTIALS_FULL_URI": address}
        assert "neither https nor" in refused(resolver(tmp_path, seen.url, elsewhere), aws("x")).reason


@pytest.mark.requirement("SC-1")
def test_a_web_identity_is_exchanged_at_sts(tmp_path: Path, moto: str, seen: SeenKeys) -> None:
    (tmp_path / "jwt").write_text("eyJ.web.identity\n")
    environ = {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "jwt"),
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/gateway",
        "AWS_ENDPOINT_URL_STS": moto,
    }
    seen.instead = lambda _: said(200, {"SecretString": CANARY})
    assert resolver(tmp_path, seen.url, environ).resolve(aws("x")).reveal() == CANARY
    assert seen.keys()[0].startswith("ASIA")
    assert seen.requests[0].headers["x-amz-security-token"]
    (tmp_path / "jwt").unlink()
    assert "web identity token cannot be read" in refused(resolver(tmp_path, seen.url, environ), aws("x")).reason


@pytest.mark.requirement("SC-1")
def test_the_credentials_file_is_read_by_profile(tmp_path: Path, seen: SeenKeys) -> None:
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        "[default]\naws_access_key_id = AKIAIOSFODNN7DEFAULT\naws_secret_access_key = %x%\n"
        "[gateway]\naws_access_key_id=AKIAIOSFODNN7EXAMPLE\naws_secret_access_key=y\n"
    )
    environ = {"HOME": str(tmp_path), "AWS_PROFILE": "gateway"}
    assert resolver(tmp_path, seen.url, environ).resolve(aws("x")).reveal() == CANARY
    assert seen.keys() == ["AKIAIOSFODNN7EXAMPLE"]
    other = {**environ, "AWS_PROFILE": "none"}
    assert "has no profile" in refused(resolver(tmp_path, seen.url, other), aws("x")).reason
    (folder / "credentials").write_text(f"aws_secret_access_key = {CANARY}")
    assert "is not a credentials file" in refused(resolver(tmp_path, seen.url, environ), aws("x")).reason
    (folder / "credentials").write_text("[gateway]\naws_access_key_id=AKIAIOSFODNN7EXAMPLE\n")
    assert "no whole AWS credentials" in refused(resolver(tmp_path, seen.url, environ), aws("x")).reason


def test_the_first_way_that_is_set_up_is_taken_and_a_named_one_alone(
    tmp_path: Path, seen: SeenKeys, machine: AwsMachineFake
) -> None:
    environ = {**ENVIRON, "AWS_EC2_METADATA_SERVICE_ENDPOINT": machine.url, "AWS_ROLE_ARN": "x"}
    resolver(tmp_path, seen.url, environ).resolve(aws("x"))
    resolver(tmp_path, seen.url, environ, auth="instance").resolve(aws("x"))
    assert seen.keys() == ["AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"]
    broken = {**environ, "AWS_SECRET_ACCESS_KEY": ""}
    assert "AWS_SECRET_ACCESS_KEY is not set" in refused(resolver(tmp_path, seen.url, broken), aws("x")).reason


def test_credentials_that_end_are_found_anew_before_they_do(
    tmp_path: Path, seen: SeenKeys, machine: AwsMachineFake
) -> None:
    clock = ManualClock()
    machine.expires = "2027-01-15T09:00:00Z"  # the clock stands an hour before
    environ = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": machine.url}
    asking = resolver(tmp_path, seen.url, environ, clock=clock)
    for asked, minutes in ((3, 10), (3, 50), (6, 1)):
        asking.resolve(aws("x"))
        assert len(machine.requests) == asked
        clock.advance(60 * minutes)


def test_credentials_that_aws_no_longer_knows_are_found_anew_once(
    tmp_path: Path, seen: SeenKeys, machine: AwsMachineFake
) -> None:
    clock = ManualClock()
    asking = resolver(tmp_path, seen.url, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": machine.url}, clock=clock)
    asking.resolve(aws("x"))
    seen.good.clear()
    clock.advance(10)
    assert "does not know these credentials" in refused(asking, aws("x")).reason
    assert len(seen.requests) == 3
    assert len(machine.requests) == 6


# Refusals


@pytest.mark.requirement("SC-1")
@pytest.mark.parametrize(
    ("instead", "reason"),
    [
        (lambda _: said(400, {"__type": "AccessDeniedException", "Message": CANARY}), "AWS denies this secret"),
        (lambda _: said(400, {"__type": "com.amazon#DecryptionFailure"}), "could not decrypt"),
        (lambda _: said(400, {"__type": "InvalidSignatureException:http://x"}), "did not accept our signature"),
        (lambda _: said(400, {"__type": "ThrottlingException"}), "with status 400"),
        (lambda _: said(400, {"__type": {"a": 1}}), "with status 400"),
        (lambda _: Said(503, CANARY.encode()), "with status 503"),
        (lambda _: Said(301, b"", {"location": "https://example.com"}), "redirect, which is never followed"),
        (lambda _: Said(200, b"y" * (2 << 20)), "exceeds 1048576 bytes"),
        (lambda _: Said(200, CANARY.encode()), "not what AWS Secrets Manager's API says"),
        (lambda _: said(200, {"SecretString": 5}), "not what AWS Secrets Manager's API says"),
        (lambda _: said(200, {"SecretString": ""}), "is empty"),
        (lambda _: said(200, {"SecretString": f"{CANARY}\0"}), "NUL"),
        (lambda _: said(200, {"SecretString": CANARY * 5000}), "more than 65536 bytes"),
        (lambda _: said(200, {"SecretBinary": "!!"}), "not UTF-8 text"),
        (lambda _: said(200, {"SecretBinary": base64.b64encode(b"\xff").decode()}), "not UTF-8 text"),
    ],
)
def test_what_aws_refuses_or_does_not_say_is_no_secret(
    tmp_path: Path, seen: SeenKeys, instead: Callable[[Request], Said], reason: str
) -> None:
    seen.instead = instead
    refusal = refused(resolver(tmp_path, seen.url), aws("x"))
    assert reason in refusal.reason
    assert not refusal.withdrawn


def test_a_service_that_is_slow_or_away_is_named(tmp_path: Path, seen: SeenKeys) -> None:
    seen.silent = True
    assert "ran out" in refused(resolver(tmp_path, seen.url, timeout=Seconds(0.2)), aws("x")).reason
    assert "refused" in refused(resolver(tmp_path, "http://127.0.0.1:1"), aws("x")).reason


def test_a_region_is_needed_and_an_address_on_the_network_needs_tls(tmp_path: Path) -> None:
    assert "no region is set" in refused(SecretResolver(tmp_path, ENVIRON), aws("x")).reason
    assert "without TLS" in refused(resolver(tmp_path, "http://aws.example.com"), aws("x")).reason
