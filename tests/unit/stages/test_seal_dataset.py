from __future__ import annotations

import json
import shutil
from pathlib import Path

import anndata
import pandas as pd
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.core.files import read_json, write_json, write_parquet
from mistline.core.hashing import hash_file
from mistline.core.provenance import sidecar
from mistline.mist.seal import SlideFiles
from mistline.mist.sheet import refuse_copies
from mistline.stages import seal_dataset
from mistline.store.manifest import version_of
from tests.unit.data.conftest import SLIDES, build, run_seal


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sealed") / "results")


@pytest.fixture
def own(sealed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sealed, tmp_path / "results"))


def test_the_manifest_counts_everything_and_its_version_is_its_hash(sealed):
    content = read_json(sealed / "dataset/manifest.json")
    scales = {scale["name"]: scale for scale in content["scales"]}
    assert scales["cell"]["records"] == 480
    assert scales["cell"]["read"] == 486
    assert scales["cell"]["excluded"] == {"no_polygon": 4, "below_min_counts": 2}
    assert scales["cell"]["read"] == scales["cell"]["records"] + sum(scales["cell"]["excluded"].values())
    for slide in content["slides"]:
        niches = pd.read_parquet(sealed / f"slides/{slide['slide']}/shards/niche.parquet")
        assert slide["scales"]["niche"]["records"] == len(niches)
        assert niches["n_cells"].sum() == slide["scales"]["cell"]["records"] == sum(slide["splits"].values())
    assert content["version"] == version_of(content)


def test_every_hash_is_that_of_the_file_beside_it(sealed):
    content = read_json(sealed / "dataset/manifest.json")
    folder = sealed / "dataset"
    named = [content["splits"], content["metacells"], content["genes"]]
    n_shards = 0
    for slide in content["slides"]:
        named += slide["files"].values()
        for scale in slide["scales"].values():
            named.append(scale["index"])
            for name, described in scale["shards"]["files"].items():
                path = folder / scale["shards"]["path"] / name
                assert (hash_file(path), path.stat().st_size) == (described["sha256"], described["bytes"])
                n_shards += name.endswith(".lmdb")
    for item in named:
        assert hash_file(folder / item["path"]) == item["sha256"]
    assert n_shards > 6


def test_the_same_cohort_elsewhere_is_the_same_dataset(sealed, tmp_path):
    other = build(tmp_path / "another place ü" / "results")
    for name in ("manifest.json", "genes.parquet", "card.md", "metacells.h5ad", "metacells.json", "splits.json"):
        assert (other / "dataset" / name).read_bytes() == (sealed / "dataset" / name).read_bytes()


def test_no_path_of_this_machine_and_no_time_is_in_the_outputs(sealed):
    for name in ("manifest.json", "card.md", "splits.json", "metacells.json"):
        assert str(sealed.parent) not in (sealed / "dataset" / name).read_text()


def test_genes_name_the_slides_that_measured_them(sealed):
    genes = pd.read_parquet(sealed / "dataset/genes.parquet")
    assert genes["gene_id"].is_monotonic_increasing
    assert genes["slides"].map(list).tolist() == [["s1"]] * 2 + [["s1", "s2"]] * 28
    assert (genes["n_slides"] == genes["slides"].map(len)).all()


def test_the_card_tells_what_a_reader_needs(sealed):
    card = (sealed / "dataset/card.md").read_text()
    version = read_json(sealed / "dataset/manifest.json")["version"]
    assert version in card
    for text in (
        "2 slides, 2 donors, 480 cells",
        "from mistline.data import open_dataset",
        "| s2 | d2 | lung | none | 28 | 240 |",
        "| lung | 240 |",
        "| no_polygon | 4 |",
        "486 cells were read, 480 kept",
        "no tile of any scale holds cells of two sides",
        "CC BY 4.0",
        "check your source",
        "| held out |",
    ):
        assert text in card


def test_what_the_manifest_was_made_by_is_in_it(sealed):
    content = read_json(sealed / "dataset/manifest.json")
    assert content["sections"]["metacells"]["n_metacells"] == 24
    assert set(content["code"]) == set(seal_dataset.STAGES)
    assert "numpy" in content["versions"]
    assert json.loads(sidecar(sealed / "dataset/card.md").read_text())["stage"] == "seal_dataset"


def test_a_change_of_the_data_is_a_change_of_the_version(own):
    before = read_json(own / "dataset/manifest.json")["version"]
    path = own / "slides/s1/bundle.json"
    write_json(path, {**read_json(path), "xoa": "9"})
    assert run_seal(own, SLIDES)["version"] != before


def fresh(root: Path) -> Path:
    for name in ("manifest.json", "genes.parquet", "card.md"):
        (root / "dataset" / name).unlink()
    return root


def refused(root: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_seal(root, SLIDES)
    assert not (root / "dataset/manifest.json").exists()
    assert not (root / "dataset/genes.parquet").exists()


def test_a_contradiction_leaves_nothing_written(own):
    path = fresh(own) / "slides/s2/shards/niche.parquet"
    table = pd.read_parquet(path)
    table.loc[0, "n_cells"] += 1
    write_parquet(path, table)
    refused(own, "slide s2, niche: key s2/.* states n_cells")


def test_splits_of_another_run_are_refused(own):
    path = fresh(own) / "dataset/splits/s1.parquet"
    table = pd.read_parquet(path)
    table.loc[0, "split"] = "gap"
    write_parquet(path, table)
    refused(own, r"s1.parquet: it is not the file that splits.json describes")


def test_one_tissue_under_two_donors_is_refused(tmp_path):
    files = []
    for name, donor, content in (("a", "d1", b"counts"), ("b", "d2", b"others"), ("c", "d2", b"counts")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "counts.h5ad").write_bytes(content)
        files.append(SlideFiles(name, donor, tmp_path / name, tmp_path / "splits"))
    refuse_copies(files[:2])
    with pytest.raises(InputError, match="slide c: its counts are those of slide a, and their donors are d1 and d2"):
        refuse_copies(files)


def test_another_donor_than_at_the_split_is_refused(own):
    path = fresh(own) / "dataset/splits.json"
    content = read_json(path)
    content["slides"]["s1"]["donor"] = "d7"
    write_json(path, content)
    refused(own, r"slide s1: splits.json does not know it as a slide of donor d1")


def test_slides_of_different_channels_are_refused(own):
    path = fresh(own) / "slides/s2/image.json"
    write_json(path, {**read_json(path), "channels": ["18S"]})
    refused(own, "slide s2: its channels .*18S.* differ from .*DAPI.* of slide s1")


def test_a_renamed_gene_keeps_its_other_name(own):
    path = fresh(own) / "slides/s2/counts.h5ad"
    data = anndata.read_h5ad(path)
    data.var["symbol"] = [f"X{i}" for i in range(data.n_vars)]
    data.write_h5ad(path)
    run_seal(own, SLIDES)
    genes = pd.read_parquet(own / "dataset/genes.parquet").set_index("gene_id")
    row = genes.loc["ENSG00000000002"]
    assert {row["symbol"], *row["aliases"]} == {"GENE2", "X0"}


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not valid JSON"), ("[]", "no slides"), ('[{"slide": "s1"}]', "a slide lacks donor")],
)
def test_bad_slides_are_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        seal_dataset.run(
            root=tmp_path,
            slides_json=text,
            manifest=tmp_path / "m.json",
            genes=tmp_path / "g",
            card=tmp_path / "c",
            scales="[]",
            params="{}",
        )
