from __future__ import annotations

from mistline.models.contract import Needs
from mistline.models.sampling import drawn


def _ids(batches) -> list[str]:
    return [cell for batch in batches for cell in batch.record_id]


def test_all_in_order_where_they_are_few(memory_source):
    assert _ids(drawn(memory_source(n=30), Needs(batch_size=8), 30, seed=1)) == [f"cell-{i}" for i in range(30)]


def test_a_seeded_draw_without_repeats_where_they_are_many(memory_source):
    source, needs = memory_source(n=100), Needs(batch_size=8)
    one, two = (_ids(drawn(source, needs, 20, seed=1)) for _ in range(2))
    assert one == two
    assert len(set(one)) == len(one) == 24
    assert one != _ids(drawn(source, needs, 20, seed=2))
