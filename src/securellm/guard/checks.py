"""Check digits of identifiers, as integer arithmetic over ASCII bytes."""

_ZERO = 48
_CPF_WEIGHTS = (11, 10, 9, 8, 7, 6, 5, 4, 3, 2)
_CNPJ_WEIGHTS = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def is_cpf(digits: bytes) -> bool:
    """Whether 11 ASCII digits are a CPF (Receita Federal: two check digits, mod 11).

    Eleven equal digits satisfy the arithmetic and are never issued.
    """
    if len(digits) != 11 or digits.count(digits[0]) == 11:
        return False
    return _mod11(digits[:9], _CPF_WEIGHTS[1:]) == digits[9] - _ZERO and (
        _mod11(digits[:10], _CPF_WEIGHTS) == digits[10] - _ZERO
    )


def is_cnpj(code: bytes) -> bool:
    """Whether 14 ASCII characters are a CNPJ: 12 digits or upper-case letters, then two check digits.

    A letter counts as its ASCII code less 48 (Instrução Normativa RFB 2.229/2024, in force since July 2026), by
    which a wholly numeric CNPJ keeps the check digits it always had.
    """
    if len(code) != 14 or code.count(code[0]) == 14:
        return False
    return _mod11(code[:12], _CNPJ_WEIGHTS[1:]) == code[12] - _ZERO and (
        _mod11(code[:13], _CNPJ_WEIGHTS) == code[13] - _ZERO
    )


def _mod11(code: bytes, weights: tuple[int, ...]) -> int:
    rest = sum((byte - _ZERO) * weight for byte, weight in zip(code, weights, strict=True)) % 11
    return 0 if rest < 2 else 11 - rest


def is_luhn(digits: bytes) -> bool:
    """Whether the last ASCII digit is the Luhn check digit (ISO/IEC 7812-1, annex B) of the others."""
    total = sum(digits[-1::-2]) - _ZERO * len(digits[-1::-2])
    return (total + sum(_DOUBLED[byte - _ZERO] for byte in digits[-2::-2])) % 10 == 0


# First and last issuer prefix of a range, and the lengths its network issues.
_ISSUERS: tuple[tuple[bytes, bytes, frozenset[int]], ...] = (
    (b"4", b"4", frozenset({13, 16, 19})),  # Visa
    (b"34", b"34", frozenset({15})),  # American Express
    (b"37", b"37", frozenset({15})),
    (b"51", b"55", frozenset({16})),  # Mastercard
    (b"2221", b"2720", frozenset({16})),
    (b"300", b"305", frozenset({14, 16})),  # Diners Club
    (b"3095", b"3095", frozenset({14, 16})),
    (b"36", b"36", frozenset({14, 16})),
    (b"38", b"39", frozenset({14, 16})),
    (b"6011", b"6011", frozenset({16, 19})),  # Discover
    (b"644", b"649", frozenset({16, 19})),
    (b"65", b"65", frozenset({16, 19})),  # Discover, Elo
    (b"3528", b"3589", frozenset({16, 19})),  # JCB
    (b"62", b"62", frozenset({16, 17, 18, 19})),  # UnionPay
    (b"81", b"81", frozenset({16})),  # RuPay
    (b"60", b"60", frozenset({16})),  # RuPay, Hipercard
    (b"384100", b"384160", frozenset({13, 16, 19})),  # Hipercard
    (b"50", b"50", frozenset({16})),  # Elo, Aura
    (b"5018", b"5018", frozenset({13, 15, 16, 18, 19})),  # Maestro
    (b"5020", b"5020", frozenset({13, 15, 16, 18, 19})),
    (b"5038", b"5038", frozenset({13, 15, 16, 18, 19})),
    (b"5893", b"5893", frozenset({13, 15, 16, 18, 19})),
    (b"56", b"58", frozenset({16, 18, 19})),
    (b"6304", b"6304", frozenset({13, 15, 16, 18, 19})),
    (b"636", b"639", frozenset({16})),  # Elo, InstaPayment, Verve
    (b"67", b"67", frozenset({13, 15, 16, 18, 19})),
    (b"220", b"220", frozenset({16})),  # Mir
    (b"9792", b"9792", frozenset({16})),  # Troy
)


def is_card(digits: bytes) -> bool:
    """Whether 13 to 19 ASCII digits are a payment card number: a known issuer's prefix and length, and Luhn."""
    length = len(digits)
    if not 13 <= length <= 19:
        return False
    for first, last, lengths in _ISSUERS:
        if length in lengths and first <= digits[: len(first)] <= last:
            return is_luhn(digits)
    return False
