from __future__ import annotations

import threading

import pytest

from mistline.mist.workers import workers


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_order(threads):
    with workers(threads) as each:
        assert list(each(lambda number: number**2, range(50))) == [number**2 for number in range(50)]


def test_one_thread_is_the_callers_own():
    with workers(1) as each:
        assert set(each(lambda _: threading.get_ident(), range(3))) == {threading.get_ident()}
    with workers(2) as each:
        assert threading.get_ident() not in set(each(lambda _: threading.get_ident(), range(3)))
