"""The registered model: see `mistline.models.predictor.Predictor` (specs/gest.md section 10, fine-tuning)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mistline.core.errors import InputError
from mistline.core.seeds import derive, generator
from mistline.models.contract import Context
from mistline.models.fusion.objectives import class_weights, macro_f1
from mistline.models.gest.embedding import Niche
from mistline.models.gest.windows import Cells
from mistline.models.niche.cells import cells_of
from mistline.models.niche.network import Network, fit_head
from mistline.models.niche.params import Params
from mistline.models.predictor import Problem

_PREDICTED = ("val", "test")


@dataclass(frozen=True, slots=True)
class _Labelled:
    """Cells with labels.

    Args:
        rows: of each slide, its own.
        label: int64 [n], slide after slide.
    """

    rows: Sequence[NDArray[np.int64]]
    label: NDArray[np.int64]

    @property
    def pairs(self) -> NDArray[np.int64]:
        """Return int64 [n, 2], slide and row of each."""
        return np.concatenate([np.column_stack([np.full_like(own, i), own]) for i, own in enumerate(self.rows)])


class Model:
    """See the module.

    Args:
        params: settings.
        network: with weights of its own.
        slides: cells of the problem it was made for.
    """

    def __init__(self, params: Params, network: Network, slides: Sequence[Cells]) -> None:
        self.params, self.network, self.slides = params, network, slides

    @classmethod
    def create(cls, params: Params, problem: Problem, context: Context) -> Model:
        """Return a model with the weights of the run, and nothing known of classes yet.

        Raises:
            InputError: no run was given, or its genes or meta-cells are not those of the problem.
        """
        start = problem.start
        if start is None:
            raise InputError(f"start {params.start}", "the trained run was not given", "give its config.json")
        side_um = start.params.niche_um if params.window_um is None else params.window_um
        niche = Niche(side_um, start.params.max_cells, start.params.embed_corners)
        encoder = copy.deepcopy(start.net)  # other folds begin with the same weights
        network = Network(encoder, niche, params.pooling, len(problem.classes))
        return cls(params, network.to(context.device), cells_of(start, problem))

    def fit(self, problem: Problem, context: Context) -> Iterator[Mapping[str, Any]]:
        """Train on the labels of the training cells, from the linear probe on the states of the run: epoch 0.

        Kept is the epoch of the best macro F1 of validation cells, of equal ones that of the least loss; where there
        are none, the last.
        """
        train, val = (self._labelled(problem, part, context.seed) for part in ("train", "val"))
        self._probe(train, len(problem.classes))
        row = {"step": 0, **self._judged(val, len(problem.classes))}
        yield row
        if self.params.frozen:
            return
        best, kept = _rank(row), self._state()
        step = torch.optim.AdamW(
            self.network.parameters(), lr=self.params.learning_rate, weight_decay=self.params.weight_decay
        )
        for epoch in range(1, self.params.epochs + 1):
            loss = self._epoch(train, step, derive(context.seed, "niche", epoch))
            row = {"step": epoch, "train_loss": loss, **self._judged(val, len(problem.classes))}
            if _rank(row) >= best:
                best, kept = _rank(row), self._state()
            yield row
        self.network.load_state_dict(kept)

    def predict(self, problem: Problem, context: Context) -> Iterator[NDArray[np.float32]]:
        """Yield [n, L] probabilities of each slide's validation and test cells; zeros for the others."""
        del context
        for cells, slide in zip(self.slides, problem.slides, strict=True):
            rows = np.flatnonzero(np.isin(slide.part, _PREDICTED))
            found = np.zeros((len(cells), len(problem.classes)), dtype=np.float32)
            with torch.no_grad():
                scores = self.network.head(self.network.states([cells], [rows]))
            found[rows] = scores.softmax(dim=1).cpu().numpy()
            yield found

    def _labelled(self, problem: Problem, part: str, seed: int) -> _Labelled:
        """Return the labelled cells of a part, or a draw of them."""
        rows = [np.flatnonzero((slide.part == part) & (slide.label >= 0)) for slide in problem.slides]
        n, most = sum(map(len, rows)), self.params.max_cells
        if n > most:
            kept = np.zeros(n, dtype=bool)
            kept[generator(seed, "niche", part).choice(n, most, replace=False)] = True
            parts = np.split(kept, np.cumsum([len(own) for own in rows])[:-1])
            rows = [own[chosen] for own, chosen in zip(rows, parts, strict=True)]
        label = [slide.label[own] for slide, own in zip(problem.slides, rows, strict=True)]
        return _Labelled(rows, np.concatenate(label))

    def _probe(self, train: _Labelled, n_classes: int) -> None:
        head, states = self.network.head, self.network.states(self.slides, train.rows)
        weight = torch.from_numpy(class_weights(train.label, n_classes).astype(np.float32)).to(states.device)
        fit_head(head, states, torch.from_numpy(train.label).to(states.device), weight)

    def _epoch(self, train: _Labelled, step: torch.optim.Optimizer, seed: int) -> float:
        """Train on as many draws as there are cells, all classes alike; return the mean loss."""
        rng = generator(seed, "draws")
        weight = 1 / np.bincount(train.label)[train.label]
        chosen = rng.choice(len(train.label), len(train.label), p=weight / weight.sum())
        pairs, losses = train.pairs, []
        self.network.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # of dropout
            for low in range(0, len(chosen), self.params.batch):
                own = chosen[low : low + self.params.batch]
                order = own[np.argsort(pairs[own, 0], kind="stable")]
                loss = self._loss(pairs[order], train.label[order])
                step.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.params.clip)
                step.step()
                losses.append(loss.item() * len(own))
        return float(np.sum(losses) / len(chosen))

    def _loss(self, pairs: NDArray[np.int64], label: NDArray[np.int64]) -> Tensor:
        """Return the mean cross-entropy of cells (slide, row), slide after slide."""
        states = [
            self.network(self.slides[slide], pairs[pairs[:, 0] == slide, 1])
            for slide in np.unique(pairs[:, 0]).tolist()
        ]
        scores = self.network.head(torch.cat(states))
        return functional.cross_entropy(scores, torch.from_numpy(label).to(scores.device))

    def _judged(self, val: _Labelled, n_classes: int) -> dict[str, float]:
        """Return figures of the validation cells; none where there are none."""
        if not len(val.label):
            return {}
        with torch.no_grad():
            scores = self.network.head(self.network.states(self.slides, val.rows)).cpu()
        loss = functional.cross_entropy(scores, torch.from_numpy(val.label)).item()
        return {"val_loss": loss, "val_macro_f1": macro_f1(val.label, scores.argmax(dim=1).numpy(), n_classes)}

    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}


def _rank(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return what is larger for a better epoch; the same for all where nothing was validated."""
    return row.get("val_macro_f1", 0.0), -row.get("val_loss", 0.0)
