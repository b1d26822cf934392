"""The Merkle tree, against RFC 6962's own definition and its published vectors."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.audit.tree import EMPTY, Frontier, leaf_hash

# The leaves and heads of the certificate-transparency reference tests.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
HEADS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def naive(entries: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    split = 1
    while split * 2 < len(entries):
        split *= 2
    return hashlib.sha256(b"\x01" + naive(entries[:split]) + naive(entries[split:])).digest()


def grown(entries: list[bytes]) -> Frontier:
    tree = Frontier()
    for entry in entries:
        tree.append(leaf_hash(entry))
    return tree


@pytest.mark.parametrize("size", range(9))
def test_the_published_heads_come_out(size: int) -> None:
    assert grown(LEAVES[:size]).root().hex() == HEADS[size]
    assert naive(LEAVES[:size]).hex() == HEADS[size]


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_every_head_on_the_way_is_the_one_of_the_definition(entries: list[bytes]) -> None:
    tree = Frontier()
    assert tree.root() == EMPTY == naive([])
    for size, entry in enumerate(entries, 1):
        tree.append(leaf_hash(entry))
        assert tree.size == size
        assert tree.root() == naive(entries[:size])


@given(st.lists(st.binary(max_size=4), max_size=40), st.lists(st.binary(max_size=4), max_size=10))
def test_a_frontier_goes_on_where_it_was_written_down(before: list[bytes], after: list[bytes]) -> None:
    tree = grown(before)
    resumed = Frontier(tree.size, tree.heads)
    for entry in after:
        resumed.append(leaf_hash(entry))
    assert resumed.root() == naive(before + after)


@pytest.mark.parametrize(
    ("size", "heads"), [(0, [bytes(32)]), (1, []), (3, [bytes(32)]), (2, [bytes(31)]), (-1, [bytes(32)])]
)
def test_heads_that_do_not_fit_a_size_are_no_frontier(size: int, heads: list[bytes]) -> None:
    with pytest.raises(ValueError, match="heads"):
        Frontier(size, heads)
