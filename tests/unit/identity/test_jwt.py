"""Signed tokens: everything by which a token has ever been made to mean something else is refused."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe, jwk
from tests.unit.identity.world import AUDIENCE, EC, ISSUER, OTHER_RSA, RSA, b64, claims, key_set, sign

from securellm.identity.jwt import (
    ALGORITHMS,
    Expected,
    TokenRefused,
    UnknownKey,
    is_signed_token,
    read_keys,
    read_token,
    verify,
)

NOW_US = 1_800_000_000_000_000
NOW = NOW_US // 1_000_000
ED = jwk.OKPKey.generate_key("Ed25519", {"kid": "edwards"})
KEYS = read_keys(key_set(RSA, EC, ED))
EXPECTED = Expected(issuer=ISSUER, audience=AUDIENCE, algorithms=("RS256", "PS256", "ES256", "EdDSA"))


def proven(token: str, keys: Any = KEYS, **changes: Any) -> Mapping[str, Any]:
    expected = msgspec.structs.replace(EXPECTED, **changes)
    return verify(read_token(token), keys, expected, now_us=NOW_US)


def reason(token: str, **changes: Any) -> str:
    with pytest.raises(TokenRefused) as refused:
        proven(token, **changes)
    return refused.value.reason


def told(**changes: Any) -> dict[str, Any]:
    return claims(NOW_US, **changes)


def forged(header: Mapping[str, Any] | str, payload: Mapping[str, Any] | str, signature: bytes = b"x" * 256) -> str:
    parts = [part if isinstance(part, str) else json.dumps(part) for part in (header, payload)]
    return ".".join([*(b64(part.encode()) for part in parts), b64(signature)])


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize(
    ("alg", "key"), [("RS256", RSA), ("PS256", RSA), ("ES256", EC), ("EdDSA", ED)], ids=lambda value: str(value)[:6]
)
def test_a_token_as_it_should_be_proves_its_claims(alg: str, key: jwk.Key) -> None:
    assert proven(sign(told(), key, alg=alg)) == told()
    assert proven(sign(told(aud=["other", AUDIENCE]), key, alg=alg, typ="at+jwt"))["sub"] == "worker"


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "", "HS256", "HS512", "RS1", "ES256K", "dir", "RS256 "]
)
def test_an_algorithm_nobody_can_allow_is_refused_before_any_key_is_looked_at(alg: str) -> None:
    for signature in (b"", b"x" * 256):
        token = forged({"alg": alg, "kid": "one"}, told(), signature or b"\0")
        assert reason(token) == "the token's algorithm is not one that can be allowed"
    unsigned = forged({"alg": alg}, told()).rpartition(".")[0] + "."
    assert reason(unsigned) == "this is not a signed token in compact form"


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize("alg", [None, 7, ["RS256"], {"RS256": 1}, True])
def test_an_algorithm_is_a_text(alg: object) -> None:
    assert "algorithm" in reason(forged({"alg": alg, "kid": "one"}, told()))


@pytest.mark.requirement("ID-3")
def test_a_public_key_is_never_taken_for_a_shared_secret() -> None:
    secrets = [
        RSA.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        RSA.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(RSA.as_dict(private=False)).encode(),
    ]
    for secret in secrets:
        for alg in ("HS256", "RS256"):
            unsigned = forged({"alg": alg, "kid": "one"}, told()).rpartition(".")[0]
            token = f"{unsigned}.{b64(hmac.digest(secret, unsigned.encode(), hashlib.sha256))}"
            assert reason(token) in {
                "the token's algorithm is not one that can be allowed",
                "the token's signature is not the issuer's",
            }
    assert not any("HS" in name for name in ALGORITHMS)


@pytest.mark.requirement("ID-3")
def test_an_algorithm_that_the_issuer_does_not_use_is_refused_although_its_key_would_fit() -> None:
    assert reason(sign(told(), alg="RS384")) == "the token's algorithm is not allowed for this issuer"
    assert (
        reason(sign(told(), alg="PS256"), algorithms=("RS256",))
        == "the token's algorithm is not allowed for this issuer"
    )
    bound = read_keys(json.dumps({"keys": [{**RSA.as_dict(private=False), "alg": "RS256"}]}).encode())
    assert reason(sign(told(), alg="PS256"), keys=bound).startswith("the token's algorithm and key id")
    assert reason(sign(told(), EC, alg="ES256", kid="one")).startswith("the token's algorithm and key id")


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/proc/self/environ",
        "https://evil.example/key",
        "file:///etc/passwd",
        "' UNION SELECT 'secret' --",
        "one\u0000",
        "ONE",
        "one ",
        "",
        "x" * 256,
        "ｏｎｅ",
        7,
        ["one"],
        {"kid": "one"},
    ],
)
def test_a_key_id_is_compared_and_nothing_else(kid: object) -> None:
    with pytest.raises(TokenRefused) as refused:
        proven(forged({"alg": "RS256", "kid": kid}, told()))
    assert refused.value.reason in {
        "the issuer has no key of the token's key id",
        "the token's key id is not a plain text",
    }


@pytest.mark.requirement("ID-3")
def test_where_a_header_says_its_key_is_nobody_looks() -> None:
    evil = OTHER_RSA.as_dict(private=False)
    pointers: dict[str, Any] = {
        "jku": "https://evil.example/keys",
        "x5u": "https://evil.example/cert",
        "jwk": evil,
        "x5c": ["MIIB"],
        "x5t": "abc",
    }
    assert reason(sign(told(), OTHER_RSA, kid="one", **pointers)) == "the token's signature is not the issuer's"
    assert proven(sign(told(), RSA, **pointers))["sub"] == "worker"
    with pytest.raises(UnknownKey):
        proven(sign(told(), OTHER_RSA, **pointers))


@pytest.mark.requirement("ID-3")
def test_without_a_key_id_the_one_key_that_fits_is_taken_and_never_one_of_two() -> None:
    assert proven(sign(told(), kid=None))["sub"] == "worker"
    two = read_keys(key_set(RSA, OTHER_RSA))
    assert reason(sign(told(), kid=None), keys=two).endswith("do not name one key of the issuer")
    twins = [{**key.as_dict(private=False), "kid": "same"} for key in (RSA, OTHER_RSA)]
    assert reason(sign(told(), kid="same"), keys=read_keys(json.dumps({"keys": twins}).encode())).endswith(
        "do not name one key of the issuer"
    )


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize(
    "audience",
    [None, "", "other", AUDIENCE + "/", AUDIENCE.upper(), [], ["other"], [[AUDIENCE]], 7, {AUDIENCE: 1}, [AUDIENCE, 7]],
)
def test_a_token_for_another_audience_is_refused(audience: object) -> None:
    assert "audience" in reason(sign(told(aud=audience)))


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize(
    "issuer", [None, "", ISSUER + "/", ISSUER.upper(), [ISSUER], {"iss": ISSUER}, "https://evil.example"]
)
def test_a_token_of_another_issuer_is_refused(issuer: object) -> None:
    assert reason(sign(told(iss=issuer))) == "the token is from another issuer"


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize("subject", [None, "", "a\nb", "x" * 256, "jos\u00e9", 7, ["worker"], "\u0661"])
def test_a_token_without_a_plain_subject_is_refused(subject: object) -> None:
    assert reason(sign(told(sub=subject))) == "the token names no subject"


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "moment",
    [
        '"1800000300"',
        "1800000300.0",
        "1800000300.5",
        "1e400",
        "-1",
        "9007199254740993",
        "1" * 400,
        "true",
        "null",
        '"١٨٠٠٠٠٠٣٠٠"',
        "[1800000300]",
    ],
    ids=lambda text: text[:20],
)
def test_a_moment_is_a_whole_number_of_seconds(name: str, moment: str) -> None:
    text = json.dumps(told(**{name: 111_111})).replace("111111", moment)
    assert reason(sign(text.encode())) in {
        f"the token's {name} is not a whole number of seconds",
        "the token's claims is not one strict JSON object",
    }


@pytest.mark.requirement("ID-3")
def test_a_token_holds_from_its_first_second_to_its_last_give_or_take_the_skew() -> None:
    assert reason(sign(told(exp=None))) == "the token never ends"
    for exp, nbf, good in [
        (NOW - 29, None, True),
        (NOW - 30, None, False),
        (NOW + 1, NOW + 30, True),
        (NOW + 1, NOW + 31, False),
    ]:
        token = sign(told(exp=exp, nbf=nbf))
        if good:
            assert proven(token)["exp"] == exp
        else:
            assert reason(token) in {"the token has expired", "the token is not valid yet"}
    assert reason(sign(told(exp=NOW)), skew=0.0) == "the token has expired"
    assert reason(sign(told(iat=NOW + 31))) == "the token is from the future"
    with pytest.raises(TokenRefused) as refused:
        proven(sign(told(exp=NOW - 31)))
    assert refused.value.expired


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
        {"crit": []},
        {"crit": ["exp"]},
        {"cty": "JWT"},
        {"enc": "A256GCM"},
        {"typ": "JWE"},
        {"typ": "dpop+jwt"},
        {"typ": "logout+jwt"},
        {"typ": 7},
        {"typ": None},
    ],
    ids=str,
)
def test_a_header_that_asks_for_more_is_refused(header: Mapping[str, Any]) -> None:
    assert reason(forged({"alg": "RS256", "kid": "one", **header}, told())).startswith("the token")


@pytest.mark.requirement("ID-3")
def test_what_is_not_a_signed_token_in_compact_form_is_refused() -> None:
    good = sign(told())
    head, body, signature = good.split(".")
    nested = sign(good.encode())
    encrypted = jwe.encrypt_compact(
        {"alg": "RSA-OAEP", "enc": "A256GCM"}, good.encode(), RSA, algorithms=["RSA-OAEP", "A256GCM"]
    )
    document = json.dumps({"payload": body, "signatures": [{"protected": head, "signature": signature}]})
    for text in (
        "",
        ".",
        "..",
        f"{head}.{body}",
        f"{head}..{signature}",
        f"{head}.{body}.",
        f"{good}.",
        f"{good}.{signature}",
        f" {good}",
        f"{good}\n",
        good.replace(".", "\u3002"),
        f"{head}=.{body}.{signature}",
        f"{head}.{body}.{signature}=",
        f"{head}.{body}.{signature[:-1]}+",
        encrypted,
        document,
        nested,
    ):
        with pytest.raises(TokenRefused):
            proven(text)


@pytest.mark.requirement("ID-3")
def test_a_token_has_one_spelling() -> None:
    head, body, signature = sign(told(), EC, alg="ES256").split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # 64 bytes of signature leave four bits of its last character unused.
    spelled = [f"{head}.{body}.{signature[:-1]}{last}" for last in alphabet]
    good = 0
    for token in spelled:
        try:
            good += read_token(token).issuer == ISSUER
        except TokenRefused:
            continue
    assert good == 4, "one for each value of the two bits that mean something, before the library is asked"


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize(
    "text",
    [
        '{"alg":"RS256","kid":"one","alg":"none"}',
        '{"alg":"none","alg":"RS256","kid":"one"}',
        '{"alg":"RS256","kid":"one"} ',
        '[{"alg":"RS256","kid":"one"}]',
        '"RS256"',
        '{"alg":"RS256","kid":"one"}{}',
        '{"alg":"RS256","\\ud800":1}',
        '{"alg":NaN}',
        "{" * 100 + "}" * 100,
        "",
    ],
    ids=lambda text: text[:30],
)
def test_a_header_is_one_strict_json_object(text: str) -> None:
    if text.endswith(" "):
        assert reason(forged(text, told())) == "the token's signature is not the issuer's"
        return
    with pytest.raises(TokenRefused):
        proven(forged(text, told()))


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize("name", ["sub", "iss", "aud", "exp", "groups"])
def test_claims_say_nothing_twice_even_under_a_good_signature(name: str) -> None:
    text = json.dumps(told(groups=["a"]))
    doubled = text[:-1] + f', "{name}": "admin"}}'
    assert reason(sign(doubled.encode())) == "the token's claims is not one strict JSON object"
    escaped = text[:-1] + f', "\\u{ord(name[0]):04x}{name[1:]}": "admin"}}'
    assert reason(sign(escaped.encode())) == "the token's claims is not one strict JSON object"


def test_a_huge_token_is_refused_unread() -> None:
    assert reason(sign(told(pad="x" * 20_000))) == "a token has at most 16384 characters"
    assert not is_signed_token("eyJ" + "x" * 20_000)
    assert proven(sign(told(pad="x" * 9_000)))["sub"] == "worker"
    assert proven(sign(told(), x5c=["x" * 4_000]))["sub"] == "worker"


@pytest.mark.parametrize("place", [10, 60, 200, -5])
def test_a_changed_byte_breaks_the_signature(place: int) -> None:
    token = sign(told())
    changed = "A" if token[place] != "A" else "B"
    with pytest.raises(TokenRefused):
        proven(token[:place] + changed + token[place:][1:])


@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_.-]{3,200}", fullmatch=True))
def test_no_text_is_ever_taken_for_a_token_or_breaks_the_reader(text: str) -> None:
    is_signed_token(text)
    with pytest.raises(TokenRefused):
        proven(text)


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=64))
def test_no_signature_but_the_issuers_is_taken(payload: bytes, signature: bytes) -> None:
    token = ".".join([b64(b'{"alg":"ES256","kid":"curve"}'), b64(payload) or "AA", b64(signature)])
    with pytest.raises(TokenRefused):
        proven(token)


@pytest.mark.requirement("ID-3")
def test_how_someone_logged_in_can_be_asked_for() -> None:
    assert proven(sign(told(acr="gold")), acr=("gold",))["acr"] == "gold"
    assert proven(sign(told(amr=["pwd", "otp"])), amr=("hwk", "otp"))["sub"] == "worker"
    for missing in ({}, {"acr": "bronze"}, {"acr": ["gold"]}):
        assert "strength" in reason(sign(told(**missing)), acr=("gold",))
    for missing in ({}, {"amr": "otp"}, {"amr": ["pwd"]}):
        assert "method" in reason(sign(told(**missing)), amr=("otp",))


@pytest.mark.requirement("ID-3")
def test_a_key_set_yields_only_keys_fit_to_check_signatures() -> None:
    small = {"kty": "RSA", "kid": "small", "e": "AQAB", "n": b64(bytes([255]) * 128)}
    rows = [
        RSA.as_dict(private=True),
        {"kty": "oct", "k": b64(b"secret" * 8), "kid": "shared"},
        {**RSA.as_dict(private=False), "use": "enc"},
        {**RSA.as_dict(private=False), "key_ops": ["encrypt"]},
        {**RSA.as_dict(private=False), "alg": "HS256"},
        {**RSA.as_dict(private=False), "kid": 7},
        {**EC.as_dict(private=False), "crv": "P-384"},
        {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
        {"kty": "OKP", "crv": "X25519", "x": b64(bytes(32))},
        {"kty": ["RSA"]},
        small,
        {},
        "RSA",
        OTHER_RSA.as_dict(private=False),
    ]
    assert [key.kid for key in read_keys(json.dumps({"keys": rows}).encode())] == ["two"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[],"keys":[]}', b"\xff", b'{"keys":' + b"[" * 99]
)
def test_what_is_no_key_set_is_refused(body: bytes) -> None:
    with pytest.raises(TokenRefused):
        read_keys(body)


def test_a_key_set_has_an_end() -> None:
    rows = [{**RSA.as_dict(private=False), "kid": str(number)} for number in range(65)]
    with pytest.raises(TokenRefused):
        read_keys(json.dumps({"keys": rows}).encode())


def test_base64_of_the_library_would_have_been_more_forgiving() -> None:
    # Why `_bytes` re-encodes: both spell the same byte.
    assert base64.urlsafe_b64decode("QQ==") == base64.urlsafe_b64decode("QR==")
