from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistline.core.errors import InputError
from mistline.xenium.ids import decode, decode_pairs, encode_pairs

U32 = st.integers(0, 2**32 - 1)


@given(st.lists(st.tuples(U32, U32), max_size=40))
def test_pairs_round_trip(pairs):
    stored = np.array(pairs, dtype=np.uint32).reshape(-1, 2)
    ids = decode(stored, "zarr")
    assert all(type(value) is str for value in ids)
    assert np.array_equal(encode_pairs(ids, "zarr"), stored)


@given(st.lists(st.text("abcdefghijklmnop", min_size=8, max_size=8), max_size=20), st.integers(1, 99))
def test_printed_ids_round_trip(heads, suffix):
    ids = np.array([f"{head}-{suffix}" for head in heads], dtype=object)
    assert list(decode_pairs(encode_pairs(ids, "x"), "x")) == list(ids)


@given(st.lists(st.integers(0, 2**31 - 1), max_size=40))
def test_integers_print_as_decimals(values):
    expected = [str(value) for value in values]
    assert list(decode(np.array(values, dtype=np.int32), "x")) == expected
    assert list(decode(pa.array(values, pa.uint32()), "x")) == expected


def test_letters_are_the_hexadecimal_digits_shifted():
    assert list(decode_pairs(np.array([[0, 1], [0x0123ABCD, 2], [0xFFFFFFFF, 10]], dtype=np.uint32), "x")) == [
        "aaaaaaaa-1",
        "abcdklmn-2",
        "pppppppp-10",
    ]


@pytest.mark.parametrize(
    "stored",
    [
        pa.array(["aaaaaaab-1", "aaaaaaaa-1"]),
        pa.array(["aaaaaaab-1", "aaaaaaaa-1"], pa.large_string()),
        pa.array([b"aaaaaaab-1", b"aaaaaaaa-1"]),
        pa.array(["aaaaaaab-1", "aaaaaaaa-1"]).dictionary_encode(),
        pa.chunked_array([["aaaaaaab-1"], ["aaaaaaaa-1"]]),
        np.array([b"aaaaaaab-1", b"aaaaaaaa-1"]),
        np.array([[1, 1], [0, 1]], dtype=np.uint32),
        np.array(["aaaaaaab-1", "aaaaaaaa-1"], dtype=object),
    ],
    ids=["text", "large text", "bytes", "dictionary", "chunks", "numpy bytes", "pairs", "objects"],
)
def test_every_way_to_store_an_id_gives_the_same_text(stored):
    assert list(decode(stored, "x")) == ["aaaaaaab-1", "aaaaaaaa-1"]


@pytest.mark.parametrize(
    ("stored", "what"),
    [
        (pa.array(["a", None]), "1 cell ids are missing"),
        (pa.array(["a", ""]), "a cell id is empty"),
        (pa.array([b"\xff\xfe"]), "a cell id is not valid text"),
        (pa.array([b"\xff\xfe"]).view(pa.string()), "a cell id is not valid text"),  # as a damaged parquet gives it
        (pa.array(["a\0b"]), "a cell id holds a zero byte"),
        (pa.array([1.0, 2.0]), "cell ids stored as double"),
        (np.zeros((2, 3), dtype=np.uint32), r"cell ids of shape \[2, 3\]"),
        (np.array([[-1, 1]]), "a cell id does not fit 32 bits"),
    ],
)
def test_bad_ids(stored, what):
    with pytest.raises(InputError, match=f"here: {what}.*; use the ids as the instrument wrote them"):
        decode(stored, "here")


@pytest.mark.parametrize("bad", ["aaaaaaa-1", "aaaaaaaaa-1", "aaaaaaaq-1", "aaaaaaaa", "aaaaaaaa-", "aaaaaaaa-x"])
def test_no_pair_for_other_text(bad):
    with pytest.raises(InputError, match="is not eight letters a to p, a dash and a number"):
        encode_pairs(np.array(["aaaaaaaa-1", bad], dtype=object), "x")
