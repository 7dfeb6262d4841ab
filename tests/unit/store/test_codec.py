from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mistline.core.errors import InputError
from mistline.store.codec import decode, encode, gene_rows, unpack

IMAGES = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=40))
GENES = st.dictionaries(st.integers(0, 65_535), st.integers(0, 2**31 - 1), max_size=30)


def _row(genes: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    index = np.array(sorted(genes), dtype=np.int64)
    return index, np.array([genes[i] for i in sorted(genes)], dtype=np.int64)


@given(IMAGES, GENES)
def test_what_goes_in_comes_out(image, genes):
    index, count = _row(genes)
    record = decode(encode(image, index, count, 7), 7)
    np.testing.assert_array_equal(record.image, image)
    np.testing.assert_array_equal(record.gene_index, index)
    np.testing.assert_array_equal(record.gene_count, count)
    assert (record.image.dtype, record.gene_index.dtype, record.gene_count.dtype) == (np.uint8, np.uint16, np.int32)


@given(st.lists(GENES, max_size=5))
def test_genes_of_several_records_are_those_of_each(rows):
    none = np.zeros((1, 2, 2), np.uint8)
    records = [encode(none, *_row(genes), key) for key, genes in enumerate(rows)]
    found = gene_rows([unpack(record, key, pixels=False) for key, record in enumerate(records)])
    alone = [decode(record, key) for key, record in enumerate(records)]
    assert found.index.tolist() == [i for record in alone for i in record.gene_index.tolist()]
    assert found.count.tolist() == [i for record in alone for i in record.gene_count.tolist()]
    assert found.length.tolist() == [len(genes) for genes in rows]
    assert (found.index.dtype, found.count.dtype, found.length.dtype) == (np.uint16, np.int32, np.int64)


def test_threads_do_not_disturb_each_other():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 60, (1, side, side), dtype=np.uint8) for side in rng.integers(20, 120, 400)]
    none = np.empty(0, np.uint16)
    alone = [encode(image, none, none, 0) for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda image: encode(image, none, none, 0), images)) == alone
        for image, record in zip(images, pool.map(decode, alone, [0] * 400), strict=True):
            np.testing.assert_array_equal(record.image, image)


def test_a_crop_with_neighbours_alike_is_a_third_smaller_than_its_pixels():
    noise = np.random.default_rng(0).integers(0, 16, (1, 60, 60))
    image = (np.add.outer(np.arange(60), np.arange(60)) + noise).astype(np.uint8)
    assert len(encode(image, np.empty(0, np.uint16), np.empty(0, np.uint16), 0)) < image.size * 2 / 3


def test_arrays_are_writable_and_own_their_memory():
    data = encode(np.full((1, 4, 4), 7, np.uint8), np.array([3]), np.array([2]), 0)
    record = decode(data, 0)
    record.image[:] = 0
    record.gene_index[:] = 0
    record.gene_count[:] = 0
    assert decode(data, 0).image.max() == 7


def test_the_type_of_the_counts_does_not_change_the_bytes():
    image = np.zeros((1, 3, 3), np.uint8)
    genes, counts = [1, 5], [2, 60_000]
    made = {
        encode(image, np.array(genes, index_type), np.array(counts, count_type), 0)
        for index_type in (np.uint16, np.int32, np.int64)
        for count_type in (np.uint16, np.uint32, np.int64)
    }
    assert len(made) == 1


def test_a_view_with_strides_is_stored_as_it_looks():
    plane = np.arange(400, dtype=np.uint8).reshape(1, 20, 20)
    view = plane[:, 3:17:2, 5:15]
    np.testing.assert_array_equal(decode(encode(view, np.empty(0, int), np.empty(0, int), 0), 0).image, view)


def test_any_changed_byte_is_noticed():
    image = np.arange(48, dtype=np.uint8).reshape(1, 6, 8)
    data = encode(image, np.array([1, 9]), np.array([4, 70_000]), 5)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(InputError, match="shard 3, key 5"):
            decode(bytes(damaged), 5, "shard 3, key 5")


def test_any_truncation_is_noticed():
    data = encode(np.arange(48, dtype=np.uint8).reshape(1, 6, 8), np.array([1]), np.array([4]), 0)
    for length in range(len(data)):
        with pytest.raises(InputError):
            decode(data[:length], 0)


@pytest.mark.parametrize(
    ("image", "index", "count"),
    [
        (np.zeros((4, 4), np.uint8), [1], [1]),
        (np.zeros((1, 4, 4), np.uint16), [1], [1]),
        (np.zeros((1, 4, 4), np.uint8), [1, 2], [1]),
        (np.zeros((1, 4, 4), np.uint8), [65_536], [1]),
        (np.zeros((1, 4, 4), np.uint8), [-1], [1]),
        (np.zeros((1, 4, 4), np.uint8), [1], [-1]),
        (np.zeros((1, 4, 4), np.uint8), [1], [2**31]),
    ],
)
def test_what_does_not_fit_is_refused(image, index, count):
    with pytest.raises(ValueError, match=r"record|gene"):
        encode(image, np.array(index), np.array(count), 0)


def test_a_record_is_read_under_its_own_key_only():
    data = encode(np.zeros((1, 3, 3), np.uint8), np.array([1]), np.array([4]), 70_000)
    assert decode(data, 70_000).gene_count.tolist() == [4]
    for other in (0, 4464, 69_999, 70_001, 2**32 - 1):
        with pytest.raises(InputError, match="its checksum does not fit its bytes and key"):
            unpack(data, other, pixels=False)


def test_a_record_of_an_older_format_is_refused_with_a_remedy():
    data = bytearray(encode(np.zeros((1, 3, 3), np.uint8), np.array([1]), np.array([4]), 0))
    data[4] = 3
    with pytest.raises(InputError, match=r"of format 3, this program reads format 4; remove the shard folder and run"):
        unpack(bytes(data), 0)
