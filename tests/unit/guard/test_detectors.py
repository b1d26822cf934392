"""What is found, in every spelling, and what must not be."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.guard.numbers import cards, cnpjs, cpfs
from tests.unit.guard.texts import redacted, types

from securellm.core.messages import Kind
from securellm.guard import detectors

SEPARATORS = ["", " ", "-", ".", "/", "\u00a0", "\u2009", " - ", "\u200b", "\u2060", "–", "・"]


def fullwidth(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in text)


def spelled(number: str, sizes: tuple[int, ...], separator: str) -> str:
    parts, at = [], 0
    for size in sizes:
        parts.append(number[at : at + size])
        at += size
    return separator.join(parts)


@pytest.mark.requirement("GD-1")
@given(cpfs(), st.sampled_from(SEPARATORS), st.booleans(), st.sampled_from([(3, 3, 3, 2), (1,) * 11, (9, 2), (11,)]))
def test_a_cpf_is_found_in_every_spelling(cpf: str, separator: str, wide: bool, sizes: tuple[int, ...]) -> None:
    written = spelled(cpf, sizes, separator)
    written = fullwidth(written) if wide else written
    assert redacted(f"o cpf é {written}, ok") == "o cpf é [CPF], ok"


@pytest.mark.requirement("GD-1")
@given(cnpjs("0123456789"), st.sampled_from(SEPARATORS), st.sampled_from([(2, 3, 3, 4, 2), (14,)]))
def test_a_numeric_cnpj_is_found_in_every_spelling(cnpj: str, separator: str, sizes: tuple[int, ...]) -> None:
    if not detectors.is_timestamp(cnpj.encode()):
        found = types(f"cnpj {spelled(cnpj, sizes, separator)}.")
        assert found[:1] in (["cnpj"], ["card"])


@pytest.mark.requirement("GD-1")
@given(cnpjs(), st.booleans())
def test_an_alphanumeric_cnpj_is_found_as_it_is_written(cnpj: str, lower: bool) -> None:
    written = f"{cnpj[:2]}.{cnpj[2:5]}.{cnpj[5:8]}/{cnpj[8:12]}-{cnpj[12:]}"
    assert redacted(f"CNPJ: {written.lower() if lower else written}") == "CNPJ: [CNPJ]"


@pytest.mark.requirement("GD-1")
@given(cards(), st.sampled_from([" ", "-", ".", "\u00a0", "", "\u200b"]))
def test_a_card_is_found_in_every_spelling(card: str, separator: str) -> None:
    sizes = (4, 4, 4, 4) if len(card) == 16 else (4, 6, 5)
    assert redacted(f"card {spelled(card, sizes, separator)}!") == "card [CARD]!"


@pytest.mark.requirement("GD-1")
@pytest.mark.parametrize(
    "phone",
    [
        "(11) 98765-4321", "11 98765-4321", "(11)98765-4321", "11 9 8765-4321", "+55 11 98765-4321", "+5511987654321",
        "+55 (11) 98765-4321", "5511987654321", "(21) 3221-1345", "21 3221-1345", "011 98765-4321", "11.98765.4321",
        "+1 212 555 0134", "+1 (212) 555-0134", "(212) 555-0134", "212-555-0134", "+351 912 345 678",
        "+44 20 7946 0958", "+49 30 901820", "+33 6 12 34 56 78", "+34612345678",
    ],
)  # fmt: skip
def test_a_phone_is_found_by_its_structure(phone: str) -> None:
    assert redacted(f"ligue {phone} hoje") == "ligue [PHONE] hoje"


@pytest.mark.requirement("GD-1")
@pytest.mark.parametrize("text", ["tel: 1132211345", "whatsapp 11987654321", "Celular 98765-4321", "telefone 32211345"])
def test_bare_digits_are_a_phone_after_a_word_that_says_so(text: str) -> None:
    assert types(text) == ["phone"]


@pytest.mark.requirement("GD-1")
@pytest.mark.parametrize(
    "address", ["ana@exemplo.com.br", "a.b+tag@sub.example.org", "joão@exemplo.com", "O'Neil@x.io", "a_b%c@x-y.museum"]
)
def test_an_email_is_found(address: str) -> None:
    assert redacted(f"<{address}>, sim") == "<[EMAIL]>, sim"


SECRETS = [
    "sk-proj-" + "aB3dE6" * 8, "sk-" + "a1B2c3" * 8, "sk-ant-api03-" + "xY9zW8" * 10, "xai-" + "Ab1" * 26,
    "AIzaSy" + "A1b2C3d4E" * 3 + "F5g6H7", "AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE", "ghp_" + "a1B2c3" * 6,
    "github_pat_" + "11ABCDEFG0" + "a1B2c3" * 6, "glpat-" + "a1B2c3d4" * 3, "xoxb-123456789012-abcdefABCDEF",
    "sk_live_" + "a1B2c3d4" * 3, "hf_" + "aBcDeFgH" * 4 + "ab", "npm_" + "a1B2c3" * 6, "slb_" + "a1b2c3d4" * 4,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
]  # fmt: skip


@pytest.mark.requirement("GD-2")
def test_a_private_key_is_found_with_its_body() -> None:
    body = "\n".join(["MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0AHB7MhgwMbRvI0MBZhpI"] * 30)
    text = f"key:\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\n"
    assert redacted(text) == "key:\n[SECRET] RSA PRIVATE KEY-----\n"
    assert "MIIE" not in redacted(json.dumps(text))


@pytest.mark.requirement("GD-2")
@pytest.mark.parametrize("secret", SECRETS)
def test_a_providers_key_is_found_whole(secret: str) -> None:
    assert redacted(f'key="{secret}" # x') == 'key="[SECRET]" # x'
    assert redacted(f"task{secret}").startswith("task")


@pytest.mark.requirement("GD-1")
@pytest.mark.parametrize(
    "text",
    [
        "em 2024-05-12 às 10:30:00 e 12/05/2024", "2024-05-12T10:30:00.123456Z", "20240512103000", "1732211345",
        "1732211345123", "1732211345123456789", "550e8400-e29b-41d4-a716-446655440000", "192.168.100.254",
        "10.0.0.1:8080", "R$ 1.234.567,89", "US$ 12,345,678.90", "v1.22.333.4444", "3.14159265358979323846",
        "0.52998224725", "52998224725.50", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3", "pedido 4500012345", "ISBN 978-3-16-148410-1", "529.982.247-26",
        "11.222.333/0001-82", "4111 1111 1111 1112", "12345678901", "111.111.111-11", "0000 0000 0000 0000",
        "user@localhost", "foo@1.2.3", "@mention", "git@github.com:org/repo.git", "sk-fading-circle-container-inner",
        "task-abcdefghijklmnopqrstuvwxyz0", "2019-2024", "12 2024-2025", "x52998224725", "52998224725abc", "98765-4321",
        "1,000,000,000", "lat -23.55052, lon -46.633308", "+12345", "+1.5", "RFC 2616, 7230-7235", "0001112223334445",
    ],
)  # fmt: skip
def test_what_only_looks_like_an_identifier_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.requirement("GD-1", "GD-6")
def test_escapes_are_undone_up_to_two_levels() -> None:
    cpf = "529.982.247-25"
    once = "".join(f"\\u{ord(c):04x}" for c in cpf)
    twice = json.dumps(once)[1:-1]
    for written in (once, twice, cpf.replace("/", "\\/"), json.dumps({"a": f"\n{cpf}"})):
        assert cpf not in redacted(written)
        assert "[CPF]" in redacted(written)
        assert "[CPF]" in redacted(f'{{"x":"{written}"}}', kind=Kind.ARGUMENTS)


@pytest.mark.requirement("GD-6")
def test_what_is_redacted_in_arguments_leaves_them_json() -> None:
    arguments = '{"cpf": 52998224725, "note": "é 529.982.247-25\\n529.982.247-25", "card": "4111111111111111"}'
    assert json.loads(redacted(arguments, kind=Kind.ARGUMENTS)) == {
        "cpf": "[CPF]",
        "note": "é [CPF]\n[CPF]",
        "card": "[CARD]",
    }


@pytest.mark.requirement("GD-6")
@pytest.mark.parametrize(
    ("number", "name", "expected"),
    [
        ("52998224725", "content", "[CPF]"),
        ("191", "cpf_cliente", "[CPF]"),
        ("11222333000181", "id", "[CNPJ]"),
        ("191", "cnpj", "[CNPJ]"),
        ("4111111111111111", "n", "[CARD]"),
        ("1732211345123456789", "created", "1732211345123456789"),
        ("20240512103000", "at", "20240512103000"),
        ("191", "status", "191"),
    ],
)
def test_a_json_integer_is_replaced_whole(number: str, name: str, expected: str) -> None:
    assert redacted(number, kind=Kind.NUMBER, name=name) == expected


@pytest.mark.requirement("GD-6")
def test_a_member_name_is_screened_too() -> None:
    assert redacted("529.982.247-25", kind=Kind.KEY) == "[CPF]"


def test_overlapping_findings_become_one_replacement() -> None:
    assert redacted("mail 52998224725@x.com.br now") == "mail [EMAIL] now"
    assert redacted("sk-ant-api03-abcdefgh12345678@x.com") == "[EMAIL]"


@pytest.mark.parametrize(
    "hostile",
    [
        "1 ",
        "a@",
        "a@b.co ",
        "sk-",
        "\\",
        "\\u0031",
        "\u200b",
        "AB ABC ABC ABCD 1 ",
        "eyJ",
        "(11) 9",
        "+1",
        "i g n o r e ",
    ],
)
def test_a_hostile_mebibyte_ends(hostile: str) -> None:
    for size in (1 << 14, 1 << 20):
        screen_text = hostile * (size // len(hostile))
        assert isinstance(redacted(screen_text), str)
