"""Noise levels and samplers against diffusers' own and against cases with a known answer."""

from __future__ import annotations

import pytest
import torch

from mistline.config.generation import Merge, Sampling
from mistline.core.errors import ConfigError
from mistline.models.diffusion import sampler
from mistline.models.diffusion.noise import Schedule

T, START, END = 1000, 0.00085, 0.012
SD = 0.5


def _schedule(prediction: str = "v") -> Schedule:
    return Schedule(T, START, END, prediction)


def _theirs(prediction: str, steps: int):
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    found = DDIMScheduler(
        T,
        START,
        END,
        "scaled_linear",
        clip_sample=False,
        prediction_type={"v": "v_prediction", "epsilon": "epsilon"}[prediction],
        timestep_spacing="trailing",
        rescale_betas_zero_snr=prediction == "v",
    )
    found.set_timesteps(steps)
    return found


def _bent(x: torch.Tensor, step: float) -> torch.Tensor:
    """Predict something that depends on everything."""
    return torch.sin(3 * x) * (0.2 + step / T) + 0.1 * x.flip(-1)


def _normal(schedule: Schedule):
    """Return the best prediction for images that are normal with standard deviation SD."""

    def predict(x: torch.Tensor, step: float) -> torch.Tensor:
        now = schedule.level(int(step))
        image = now.signal * SD**2 / (now.signal**2 * SD**2 + now.noise**2) * x
        return (now.signal * x - image) / now.noise

    return predict


def test_with_v_the_last_level_is_noise_alone():
    levels = _schedule().levels(50)
    assert (levels[0].step, levels[0].signal, levels[0].noise) == (T - 1, 0.0, 1.0)
    assert (levels[-1].signal, levels[-1].noise) == (1.0, 0.0)
    assert _schedule("epsilon").levels(50)[0].signal == pytest.approx(0.0683, abs=1e-3)
    assert _schedule().signal.dtype == torch.float64


@pytest.mark.parametrize("prediction", ["v", "epsilon"])
@pytest.mark.parametrize("steps", [1, 20, 50])
def test_ddim_is_that_of_diffusers(prediction, steps):
    schedule, theirs = _schedule(prediction), _theirs(prediction, steps)
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert [level.step for level in schedule.levels(steps)[:-1]] == theirs.timesteps.tolist()
    expected = x
    for step in theirs.timesteps:
        expected = theirs.step(_bent(expected, float(step)), step, expected).prev_sample
    torch.testing.assert_close(sampler.ddim(schedule, _bent, x, steps), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("prediction", ["v", "epsilon"])
def test_a_right_prediction_gives_the_image_and_its_noise(prediction):
    schedule = _schedule(prediction)
    image, noise = torch.randn(2, 4, 2, 3, 3, dtype=torch.float64)
    t = torch.tensor([0, 300, 700, 990])
    x, target = schedule.noised(image, noise, t), schedule.target(image, noise, t)
    for i, step in enumerate(t.tolist()):
        found = schedule.split(x[i], target[i], schedule.level(step))
        torch.testing.assert_close(found, (image[i], noise[i]))


def test_normal_images_are_drawn_with_their_spread():
    x = torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(0))
    schedule = _schedule()
    assert sampler.ddim(schedule, _normal(schedule), x, 400).std().item() == pytest.approx(SD, rel=0.03)


@pytest.mark.parametrize("prediction", ["v", "epsilon"])
def test_inversion_comes_back_the_closer_the_more_steps(prediction):
    schedule = _schedule(prediction)
    x = SD * torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    predict, errors = _normal(_schedule("v")), []
    if prediction == "epsilon":
        own = _schedule("epsilon")

        def predict(x, step):
            now = own.level(int(step))
            return now.noise * x / (now.signal**2 * SD**2 + now.noise**2)

    for steps in (5, 20, 80):
        noise = sampler.invert(schedule, predict, x, steps)
        errors.append((sampler.ddim(schedule, predict, noise, steps) - x).abs().max().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < 0.02
    assert noise.std().item() == pytest.approx(1.0, abs=0.25)


class _Unet:
    """Stands in for a network; remembers how many images it was given."""

    def __init__(self) -> None:
        self.unet, self.conditions, self.given = None, self, []

    def empty(self, n: int) -> torch.Tensor:
        return torch.zeros(n, 4, 1)

    def predict(self, x: torch.Tensor, t: float, tokens: torch.Tensor) -> torch.Tensor:
        self.given.append((len(x), t))
        return tokens.mean(1)[:, :, None, None] + 0 * x


@pytest.mark.parametrize(("weight", "expected", "images"), [(0, 0, 6), (1, 3, 3), (2, 6, 6), (1.5, 4.5, 6)])
def test_guidance_is_equation_10(weight, expected, images):
    net, x = _Unet(), torch.zeros(3, 2, 2, 2)
    with sampler.guided(net, torch.full((3, 4, 1), 3.0), Sampling(guidance=weight)) as predict:
        assert torch.equal(predict(x, 7), torch.full_like(x, expected))
    assert net.given == [(images, 7)]


def test_merging_by_guidance_needs_guidance():
    settings = Sampling(guidance=1, merge=Merge(way="cfg"))
    with (
        pytest.raises(ConfigError, match="guidance 1 tells nothing"),
        sampler.guided(_Unet(), torch.zeros(3, 4, 1), settings),
    ):
        pass


def test_merging_sees_both_predictions_of_each_step(monkeypatch):
    from contextlib import contextmanager

    seen = []

    @contextmanager
    def merging(unet, merge):
        yield type("Merged", (), {"observe": staticmethod(lambda *both: seen.append(both))})

    monkeypatch.setattr(sampler, "merging", merging)
    with sampler.guided(_Unet(), torch.full((3, 4, 1), 3.0), Sampling(merge=Merge(way="cfg"))) as predict:
        sampler.ddim(_schedule(), predict, torch.zeros(3, 2, 2, 2), 4)
    assert len(seen) == 4
    assert all((told == 3).all() and (untold == 0).all() for told, untold in seen)


def test_noise_is_each_cells_own():
    both = sampler.noise([5, 6], (2, 3, 3))
    assert torch.equal(both[1], sampler.noise([6], (2, 3, 3))[0])
    assert not torch.equal(both[0], both[1])
