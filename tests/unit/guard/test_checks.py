"""Check digits: an oracle table, and properties over generated numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.guard.numbers import cards, cnpjs, cpfs

from securellm.guard.checks import is_card, is_cnpj, is_cpf, is_luhn

KNOWN_CPFS = ["52998224725", "11144477735", "12345678909", "39053344705", "00000000191"]
KNOWN_CNPJS = ["11222333000181", "12ABC34501DE35", "00000000000191", "33000167000101"]
KNOWN_CARDS = ["4111111111111111", "5555555555554444", "378282246310005", "30569309025904", "6011111111111117"]


@pytest.mark.requirement("GD-1")
def test_known_numbers_pass() -> None:
    assert all(is_cpf(number.encode()) for number in KNOWN_CPFS)
    assert all(is_cnpj(number.encode()) for number in KNOWN_CNPJS)
    assert all(is_card(number.encode()) for number in KNOWN_CARDS)


@pytest.mark.requirement("GD-1")
@given(cpfs(), st.integers(0, 10), st.integers(1, 9))
def test_a_cpf_with_one_wrong_digit_fails(cpf: str, at: int, shift: int) -> None:
    wrong = cpf[:at] + str((int(cpf[at]) + shift) % 10) + cpf[at + 1 :]
    assert is_cpf(cpf.encode())
    # Mod 11 writes both 10 and 11 as 0, so a digit changed under a zero check digit can go unseen by that one.
    if "0" not in cpf[9:] and "0" not in wrong[9:]:
        assert not is_cpf(wrong.encode())


@pytest.mark.requirement("GD-1")
@given(cnpjs(), st.integers(12, 13), st.integers(1, 9))
def test_a_cnpj_with_a_wrong_check_digit_fails(cnpj: str, at: int, shift: int) -> None:
    assert is_cnpj(cnpj.encode())
    assert not is_cnpj((cnpj[:at] + str((int(cnpj[at]) + shift) % 10) + cnpj[at + 1 :]).encode())


@pytest.mark.requirement("GD-1")
@given(cards(), st.data())
def test_a_card_with_one_wrong_digit_fails_luhn(card: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(card) - 1))
    shift = data.draw(st.integers(1, 9))
    assert is_card(card.encode())
    assert not is_luhn((card[:at] + str((int(card[at]) + shift) % 10) + card[at + 1 :]).encode())


@pytest.mark.parametrize("number", ["11111111111", "00000000000", "5299822472", "529982247250"])
def test_equal_digits_and_wrong_lengths_are_no_cpf(number: str) -> None:
    assert not is_cpf(number.encode())


@pytest.mark.parametrize("number", ["1234567812345670", "9111111111111111", "41111111111116", "0000000000000000"])
def test_a_luhn_number_without_an_issuer_of_its_length_is_no_card(number: str) -> None:
    assert not is_card(number.encode())
