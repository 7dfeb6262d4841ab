"""The task on rings that are made by rule: two genes rise and one falls near the changed circles, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.core.hashing import hash_file
from mistline.store.embeddings import Origin
from mistline.store.perturbed import Perturbed, write_perturbed
from mistline.tasks import perturbation
from mistline.tasks.base import MODEL
from mistline.tasks.files import FileInputs, Subject
from mistline.tasks.perturbation_scores import adjusted, log2fc, signed_rank

GENES = tuple(f"g{i}" for i in range(8))
SYMBOLS = ("LIGAND", "UP1", "UP2", "DOWN", "SAME1", "SAME2", "SAME3", "MISSED")
EXPECTED = {"UP1": "high", "g2": "high", "down": "low", "SAME1": "same", "SAME2": "same", "MISSED": "high"}
PARAMS = perturbation.Params(
    perturbation={"activated": ["LIGAND"], "radius_um": 60, "ring_um": 120, "sweep": [0.25]},
    expected=EXPECTED,
    bootstrap=100,
)
EFFECT = np.array([0.6, 0.3, 0.3, -0.3, 0, 0, 0, 0])
N = 120


def made(seed: int = 0) -> Perturbed:
    rng = np.random.default_rng(seed)
    columns = {name: [] for name in ("slide", "roi", "variant", "sigma", "cell_id", "distance_um", "told")}
    for roi in range(3):
        distance, before = rng.uniform(60, 180, N), rng.uniform(0.8, 1.2, (N, 8))
        near = (distance <= 120)[:, None]
        tiny = rng.normal(0, 0.02, (N, 8))
        rings = {
            ("control", 0.0): before,
            ("perturbed", 0.25): before + near * EFFECT / 10 + tiny,
            ("perturbed", 0.5): before + near * EFFECT + tiny,
            ("random_genes", 0.5): before + tiny,
            ("elsewhere", 0.5): before,
        }
        for (variant, sigma), told in rings.items():
            order = rng.permutation(N)  # the order of the cells says nothing
            columns["slide"] += ["s"] * N
            columns["roi"] += [roi] * N
            columns["variant"] += [variant] * N
            columns["sigma"] += [sigma] * N
            columns["cell_id"] += [f"c{roi}-{i}" for i in order]
            columns["distance_um"] += distance[order].tolist()
            columns["told"] += told[order].tolist()
    kinds = {"roi": np.int16, "sigma": np.float32, "distance_um": np.float32, "told": np.float32}
    n = len(columns["slide"])
    return Perturbed(
        **{name: np.array(values, dtype=kinds.get(name)) for name, values in columns.items()},
        round=np.ones(n, np.int16),
        way=np.array(["generated"] * n),
        is_quantised=False,
        genes=GENES,
        symbols=SYMBOLS,
        expression=np.eye(8, dtype=np.float32),
        origin=Origin("gest", 0, "w", "v1"),
        about={
            "settings": PARAMS.perturbation.model_dump(mode="json"),
            "share_changed": [
                {"slide": "s", "roi": roi, "variant": "perturbed", "sigma": 0.5, "share": share}
                for roi, share in enumerate((0.5, 0.7, 0.9))
            ],
        },
    )


def judge(rings: Perturbed | None, params: perturbation.Params = PARAMS):
    inputs = SimpleNamespace(is_controls=rings is None, perturbed=lambda: rings)
    return perturbation.evaluate(inputs, params, "rings")


@pytest.fixture(scope="module")
def rings() -> Perturbed:
    return made()


@pytest.fixture(scope="module")
def found(rings):
    return judge(rings)


def test_planted_effects_are_called_and_controls_move_nothing(found):
    assert (found.unit, found.n, set(found.rows)) == ("gene", 6, {MODEL, "random_genes", "elsewhere"})
    about = found.model.about
    assert [own["call"] for own in about["calls"].values()] == ["high", "high", "low", "same", "same", "same"]
    value = {name: {key: own.value for key, own in row.metrics.items()} for name, row in found.rows.items()}
    assert value[MODEL]["accuracy"] == pytest.approx(5 / 6)
    assert value[MODEL]["balanced_accuracy"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert value["elsewhere"]["accuracy"] == pytest.approx(2 / 6)
    assert value["elsewhere"]["balanced_accuracy"] == pytest.approx(1 / 3)
    assert value[MODEL]["moved_inside"] > 0.3
    assert abs(value[MODEL]["moved_outside"]) < 0.02
    assert value["elsewhere"]["moved_inside"] == value["elsewhere"]["moved_outside"] == 0
    for row in found.rows.values():
        assert all(own.low - 1e-9 <= own.value <= own.high + 1e-9 for own in row.metrics.values())
        for metric, units in row.per_unit.items():  # tests of rows pair these, so their mean is the metric
            assert np.mean(list(units.values())) == pytest.approx(row.metrics[metric].value)
    assert set(found.model.per_unit["moved_inside"]) == {"s/0", "s/1", "s/2"}


def test_what_depends_on_width_and_distance_is_told(found):
    about = found.model.about
    assert about["share_changed"] == {"0.25": None, "0.5": pytest.approx(0.7)}
    narrow, own = about["sweep"]
    assert (narrow["sigma"], own["sigma"]) == (0.25, 0.5)
    assert narrow["accuracy"] < own["accuracy"] == found.model.metrics["accuracy"].value
    profile = {row["from_um"]: row["moved"] for row in about["ring_profile"]["perturbed"]}
    assert list(profile) == [0, 20, 40, 60, 80, 100]
    assert min(profile[k] for k in (0, 20, 40)) > 0.3 > 0.05 > max(abs(profile[k]) for k in (60, 80, 100))
    assert sum(row["cells"] for row in about["ring_profile"]["perturbed"]) == 3 * N


def test_controls_need_no_model():
    found = judge(None)
    value = {name: {key: own.value for key, own in row.metrics.items()} for name, row in found.rows.items()}
    assert value == {
        "majority": {"accuracy": pytest.approx(3 / 6), "balanced_accuracy": pytest.approx(1 / 3)},
        "copy": {"accuracy": pytest.approx(2 / 6), "balanced_accuracy": pytest.approx(1 / 3)},
    }
    copied = judge(None, PARAMS.model_copy(update={"expected": {"ligand": "high", "UP1": "high", "DOWN": "low"}}))
    assert copied.rows["copy"].metrics["accuracy"].value == pytest.approx(1 / 3)


def test_a_reference_profile_is_compared_with(rings, tmp_path):
    path = tmp_path / "profile.csv"
    path.write_text(
        "gene,value\n" + "".join(f"{symbol},{value}\n" for symbol, value in zip(SYMBOLS, EFFECT, strict=True))
    )
    params = PARAMS.model_copy(update={"reference": str(path), "reference_sha256": hash_file(path)})
    found = judge(rings, params)
    told = found.model.about["reference"]
    assert told["genes"] == 8
    assert told["perturbed"] > told["control"] + 0.3
    assert told["p"] < 1e-6
    assert found.model.metrics["reference_pcc"].value > found.rows["elsewhere"].metrics["reference_pcc"].value
    with pytest.raises(InputError, match="its sha256 is"):
        judge(rings, params.model_copy(update={"reference_sha256": "0" * 64}))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"expected": {"UP3": "high"}}, ConfigError, "gene 'UP3' is not generated; leave it out, or did you mean UP"),
        ({"expected": {"UP1": "high", "g1": "low"}}, ConfigError, "gene 'g1' is named twice"),
        ({"near_um": 1e-6}, InputError, "no generated cell is within 1e-06 um"),
        (
            {"perturbation": PARAMS.perturbation.model_copy(update={"radius_um": 50.0})},
            InputError,
            "generated under other settings; run perturb again",
        ),
    ],
)
def test_what_cannot_be_judged_is_one_sentence(rings, change, error, message):
    with pytest.raises(error, match=message):
        judge(rings, PARAMS.model_copy(update=change))


def test_a_ring_that_lacks_a_cell_is_refused(rings):
    last = np.array(rings.cell_id)
    last[-1] = "another"
    with pytest.raises(InputError, match=r"the rings of elsewhere 0\.5 and control differ"):
        judge(replace(rings, cell_id=last))


def test_rings_are_read_from_the_file_of_this_model_and_dataset(rings, tmp_path, found):
    path = tmp_path / "p.parquet"
    write_perturbed(path, rings)
    again = perturbation.evaluate(FileInputs([], Subject("gest", 0, "v1", perturbed=path)), PARAMS, "rings")
    assert again.model.metrics["accuracy"] == found.model.metrics["accuracy"]
    with pytest.raises(InputError, match="made from another seed"):
        FileInputs([], Subject("gest", 1, "v1", perturbed=path))
    with pytest.raises(InputError, match="asks for perturbed cells and none were given; run perturb"):
        perturbation.evaluate(FileInputs([], Subject("gest", 0, "v1")), PARAMS, "rings")


def test_statistics_are_those_of_the_books():
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(0).uniform(size=50) ** 3
    np.testing.assert_allclose(adjusted(p), false_discovery_control(p))
    assert signed_rank(np.zeros((9, 2))).tolist() == [1, 1]
    shifted = np.random.default_rng(1).normal(0.5, 1, (200, 1))
    assert signed_rank(shifted)[0] < 1e-5
    before, after = np.log1p(np.full((4, 1), 3.0)), np.log1p(np.full((4, 1), 6.0))
    assert log2fc(before, after)[0] == pytest.approx(1, abs=0.01)
