"""Drawing training records for a fit that needs no more than so many."""

from __future__ import annotations

from collections.abc import Iterator

from mistline.models.contract import Batch, Needs, Source


def drawn(source: Source, needs: Needs, largest: int, seed: int) -> Iterator[Batch]:
    """Yield the batches of at least `largest` records drawn by seed, in whole batches; all where there are no more.

    Reading in the order of the files is fast, so nothing is shuffled unless something is left out.
    """
    if source.count(needs.scale) <= largest:
        yield from source.batches(needs)
        return
    read = 0
    for batch in source.batches(needs, shuffle=seed):
        yield batch
        read += len(batch.record_id)
        if read >= largest:
            return
