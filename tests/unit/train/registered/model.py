from __future__ import annotations

from mistline.models.contract import Needs, Recipe
from tests.unit.train.tiny import Tiny


class Model(Tiny):
    """See `mistline.models.contract.Trainable`."""

    genes = ()

    @classmethod
    def create(cls, params, source, context):
        needs = Needs(genes="dense", batch_size=16)
        recipe = Recipe(needs, steps=params.steps, warmup_steps=4, row_every=5, validate_every=10, save_every=6)
        return cls(len(source.genes), rate=params.rate, recipe=recipe)

    def arrays(self):
        return self.weights()
