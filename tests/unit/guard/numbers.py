"""Generated identifiers with right check digits, by an arithmetic of their own."""

from hypothesis import strategies as st

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def with_check_digits(body: str, *, highest: int) -> str:
    """`body` and two mod-11 digits, weights counted from the right: 2 up to `highest`, then again."""
    for _ in range(2):
        total = sum((ord(c) - 48) * (2 + i % (highest - 1)) for i, c in enumerate(reversed(body)))
        body += str((11 - total % 11) % 11 % 10 if total % 11 > 1 else 0)
    return body


def luhn(body: str) -> str:
    doubled = sum(sum(divmod(int(c) * 2, 10)) for c in reversed(body[::-1][::2]))
    single = sum(int(c) for c in body[::-1][1::2])
    return body + str(-(doubled + single) % 10)


def cpfs() -> st.SearchStrategy[str]:
    bodies = st.text("0123456789", min_size=9, max_size=9).filter(lambda body: len(set(body)) > 1)
    return bodies.map(lambda body: with_check_digits(body, highest=11))


def cnpjs(alphabet: str = ALPHABET) -> st.SearchStrategy[str]:
    bodies = st.text(alphabet, min_size=12, max_size=12).filter(lambda body: len(set(body)) > 1)
    return bodies.map(lambda body: with_check_digits(body, highest=9))


def cards() -> st.SearchStrategy[str]:
    visa = st.text("0123456789", min_size=14, max_size=14).map(lambda body: luhn("4" + body))
    amex = st.text("0123456789", min_size=12, max_size=12).map(lambda body: luhn("37" + body))
    mastercard = st.text("0123456789", min_size=13, max_size=13).map(lambda body: luhn("54" + body))
    return st.one_of(visa, amex, mastercard)
