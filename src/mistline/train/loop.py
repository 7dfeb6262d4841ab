"""The training loop of models that offer `mistline.models.contract.Trainable`.

AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with linear warm-up, a cosine, gradient clipping and bfloat16
on GPUs, as specs/spatia.md section 8 decides, on any number of devices. Every draw of step s in process r comes from
a seed derived from (seed, "step", s, r): a training that was killed goes on from its last state and ends with the
weights that it would have had, bit for bit on a CPU.
"""

from __future__ import annotations

import logging
import math
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mistline.core.errors import ResourceError
from mistline.core.seeds import derive
from mistline.models.contract import Context, Recipe, Source, Trainable
from mistline.train.distributed import Team
from mistline.train.progress import Pace, Sums, add, means, pooled
from mistline.train.schedule import share
from mistline.train.signals import heard
from mistline.train.state import FILE, Course, State, describe
from mistline.train.stream import Piece, Stream, validation

logger = logging.getLogger("mistline.train")

_SHOWN_RECORDS = 5

Row = Mapping[str, Any]


def fit(model: Trainable, train: Source, val: Source, context: Context) -> Iterator[Row]:
    """Train a model; it has the trained weights when the last row was taken.

    Args:
        model: untrained.
        train: training records.
        val: validation records; with none, nothing is validated.
        context: seed, device, and the folder of the state.

    Yields:
        Rows of metrics: step, epoch, lr, the mean of each loss since the row before, grad_norm, and after a
        validation `val_` and the name of each loss; also those of before an interruption.

    Raises:
        ConfigError: there are too few training records.
        ResourceError: a loss or gradient is not finite, the process was told to stop, or the state in the folder is
            of another training.
    """
    loop = _Loop(model, train, val, context)
    devices = [torch.device(context.device)] if context.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices), heard(loop.tell):
        yield from loop.run()


class _Step(nn.Module):
    """A net that gives `loss` with its gradient, and the other losses without: only what is minimised is waited for."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Any, draw: torch.Generator) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.net(inputs, draw)
        return {name: value if name == "loss" else value.detach() for name, value in losses.items()}


class _Loop:
    """One training in one process."""

    def __init__(self, model: Trainable, train: Source, val: Source, context: Context) -> None:
        self.model, self.val, self.context = model, val, context
        self.team = Team.current()
        if hasattr(model, "meet"):
            model.meet(val)
        self.recipe: Recipe = model.recipe(train)
        self.stream = Stream(train, self.recipe, context.seed, self.team)
        self.total = self.stream.steps()
        model.net.to(context.device).train()
        groups = [{**group, "initial_lr": group["lr"]} for group in model.groups()]
        optimizer = torch.optim.AdamW(groups, betas=self.recipe.betas, fused=True)
        self.parameters = [value for group in groups for value in group["params"]]
        self.state = State(model.net, optimizer)
        self.identity = {
            "number of devices": self.team.world,
            "seed": context.seed,
            "number of steps": self.total,
            "number of training records": train.count(self.recipe.needs.scale),
            "recipe": asdict(self.recipe),
            **describe(model.net, optimizer),
        }
        self.path = context.resume / FILE
        self.told = 0

    def tell(self, number: int) -> None:
        """Remember a signal until the step is done."""
        self.told = number

    def run(self) -> Iterator[Row]:
        """Yield the rows; see `fit`."""
        course = self._resumed()
        yield from course.rows
        if not course.finished:
            yield from self._steps() if self.total else self._judged()
            self.state.course.finished = True
            self._save()
        self.state.restore_best()
        self.model.net.eval()

    def _resumed(self) -> Course:
        """Take up the state of an interrupted training, where there is one, in all processes alike."""
        self.state.load(self.path, self.identity)
        course = self.state.course
        if len({str(step) for step in self.team.gather(course.step)}) > 1:
            what = "not every process sees the same state of the training"
            raise ResourceError(self.path, what, "use a folder that all machines share, and run again")
        if course.step:
            logger.info("going on after step %d of %d", course.step, self.total)
        return course

    def _steps(self) -> Iterator[Row]:
        course, recipe = self.state.course, self.recipe
        wrapped = _shared(_Step(self.model.net), self.team)
        pieces = self.stream.pieces(course.epoch, course.batch)
        piece = next(pieces, None) if course.step < self.total else None
        pace = Pace(self.total, course.step)
        while piece is not None:
            records = self._agree(piece)
            losses, norm = self._backward(wrapped, piece, records)
            last = course.step + 1 == self.total
            following = None if last else next(pieces, None)  # read while a GPU computes
            self._change(piece, losses, norm)
            course.step, course.epoch, course.batch = course.step + 1, piece.epoch, piece.batch
            pace.step(records)
            done = following is None
            if done or course.step % recipe.row_every == 0 or course.step % recipe.validate_every == 0:
                row = self._row(done or course.step % recipe.validate_every == 0)
                course.rows.append(row)
                yield row
                done = done or self._patience_is_out()
            if not done and course.step % recipe.save_every == 0:
                self._save()
            piece = None if done else following

    def _judged(self) -> Iterator[Row]:
        """Yield the row of a model that came with its weights: no step is taken."""
        row = {"step": 0, "epoch": 0, **self._validated()}
        self.state.course.rows.append(row)
        yield row

    def _agree(self, piece: Piece) -> int:
        """Return the records of all processes in this step; where one was told to stop, all save and stop."""
        records, told = self.team.sum([piece.records, float(self.told != 0)])
        if told:
            self._save()
            name = signal.Signals(self.told).name if self.told else "a signal to another process"
            where = f"training step {self.state.course.step}"
            raise ResourceError(where, f"stopped by {name}, its state is saved", "run the same again to go on")
        return int(records)

    def _backward(self, wrapped: nn.Module, piece: Piece, records: int) -> tuple[list[dict[str, Tensor]], Tensor]:
        """Add up the gradients of the step's batches, each weighted by its share of the records of all processes.

        Returns:
            The losses of each batch, and the norm of the gradient before clipping, all still on the device.
        """
        course, recipe, device = self.state.course, self.recipe, self.context.device
        draw = seeded(derive(self.context.seed, "step", course.step, self.team.rank), device)
        found = []
        self.model.net.zero_grad(set_to_none=True)
        for number, batch in enumerate(piece.batches, 1):
            inputs = self.model.prepare(batch, device)
            waits = isinstance(wrapped, DistributedDataParallel) and number < len(piece.batches)
            with wrapped.no_sync() if waits else nullcontext():  # type: ignore[operator]
                with precision(recipe, device):
                    losses = wrapped(inputs, draw)
                # Processes' gradients are averaged, not added: hence times their number.
                (losses["loss"] * (self.team.world * len(batch.xy_um) / records)).backward()
            found.append({name: value.detach() for name, value in losses.items()})
        return found, nn.utils.clip_grad_norm_(self.parameters, recipe.clip)

    def _change(self, piece: Piece, losses: list[dict[str, Tensor]], norm: Tensor) -> None:
        """Change the weights by one step, if all numbers are finite, and take the losses into the next row."""
        names = [(number, name) for number, of_batch in enumerate(losses) for name in of_batch]
        values = torch.stack([norm, *(losses[number][name].float() for number, name in names)]).tolist()
        bad = [(names[i][0], names[i][1], value) for i, value in enumerate(values[1:]) if not math.isfinite(value)]
        if bad or not math.isfinite(values[0]):
            self._refuse(piece, bad, norm=values[0])
        course, optimizer = self.state.course, self.state.optimizer
        factor = share(course.step, self.total, self.recipe.warmup_steps, self.recipe.final_lr)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        optimizer.step()
        add(course.window, "grad_norm", values[0], 1.0)
        for (number, name), value in zip(names, values[1:], strict=True):
            add(course.window, name, value, float(len(piece.batches[number].xy_um)))

    def _refuse(self, piece: Piece, bad: list[tuple[int, str, float]], norm: float) -> None:
        """Say which records a process had when a number was not finite.

        Raises:
            ResourceError: always.
        """
        number, name, value = bad[0] if bad else (0, "gradient", norm)
        batch = piece.batches[number]
        keys = [f"{slide}/{record}" for slide, record in zip(batch.slide, batch.record_id, strict=True)]
        more = f" and {len(keys) - _SHOWN_RECORDS} more" if len(keys) > _SHOWN_RECORDS else ""
        what = f"{name} is {value}, not finite, with the records {', '.join(keys[:_SHOWN_RECORDS])}{more}"
        if not math.isfinite(norm):  # all processes see that, and the one whose loss it was knows the records
            told = self.team.gather(what if bad else None)
            what = next(filter(None, told), what)
        remedy = "look at these records, or lower the learning rate of this model"
        raise ResourceError(f"training step {self.state.course.step + 1}", what, remedy)

    def _row(self, validate: bool) -> dict[str, Any]:
        """Return the row of this step; its losses are means over the records of all processes since the last."""
        course = self.state.course
        first = self.state.optimizer.param_groups[0]
        row = {"step": course.step, "epoch": course.epoch, "lr": first["lr"], **means(pooled(course.window, self.team))}
        course.window = {}
        return row | (self._validated() if validate else {})

    def _validated(self) -> dict[str, float]:
        """Return the mean losses on the validation records, and remember the weights where they are the best."""
        net, device = self.model.net, self.context.device
        found: Sums = {}
        net.eval()
        with torch.no_grad():
            batches = validation(self.val, self.recipe, self.context.seed, self.team)
            for number, batch in enumerate(batches):
                draw = seeded(derive(self.context.seed, "validation", number, self.team.rank), device)
                with precision(self.recipe, device):
                    losses = net(self.model.prepare(batch, device), draw)
                for name, value in losses.items():
                    add(found, name, float(value), float(len(batch.xy_um)))
        net.train()
        told = {f"val_{name}": value for name, value in means(pooled(found, self.team)).items()}
        self._remember(told.get("val_loss"))
        return told

    def _remember(self, value: float | None) -> None:
        course = self.state.course
        if value is None:
            if self.recipe.patience is not None:
                logger.warning("no validation record makes a batch: training goes on to its last step")
            return
        if course.best is None or value < course.best:
            course.best, course.waited = value, 0
            if self.recipe.patience is not None:
                self.state.keep_best()
        else:
            course.waited += 1

    def _patience_is_out(self) -> bool:
        return self.recipe.patience is not None and self.state.course.waited >= self.recipe.patience

    def _save(self) -> None:
        """Write the state, in process 0 alone; what the others know of the next row goes there too."""
        course = self.state.course
        whole = pooled(course.window, self.team)
        course.window = whole if self.team.rank == 0 else {}
        if self.team.rank == 0:
            self.state.save(self.path, self.identity)


def _shared(step: nn.Module, team: Team) -> nn.Module:
    """Return the step, its gradients averaged over all processes; parameters without any may differ from step to step.

    Buffers are constants or alike in all processes already: nothing of them is sent.
    """
    if team.world == 1:
        return step
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch releases in which it has another name
        return DistributedDataParallel(step, find_unused_parameters=True, broadcast_buffers=False)


def seeded(seed: int, device: str) -> torch.Generator:
    """Return a generator on the device, and seed torch's own, for the draws of one step."""
    torch.default_generator.manual_seed(seed)  # torch.manual_seed writes down its caller's stack, each time
    if device.startswith("cuda"):
        torch.cuda.manual_seed(seed)
    return torch.Generator(device).manual_seed(seed)


def precision(recipe: Recipe, device: str) -> torch.autocast:
    """Return the context of a forward pass: bfloat16 on a GPU, unless the recipe says float32."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda" and recipe.precision == "auto")
