"""`auglift generate`: the same slices whatever the count, marked in every format."""

import json
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
import yaml
from PIL import Image

from tasks.commands.export import generate_cli
from tasks.commands.export.generator_source import read_generator_info
from tasks.commands.export.standalone_generator import generate_slices, load_packed_generator
from tasks.common.slice_set import read_slice_set
from tasks.generate import __main__ as stage_generate
from tasks.generate.external_images import read_image_folder
from tests.tasks.export_fixtures import clone


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to write to, with the clone as the current one."""
    monkeypatch.chdir(trained)
    return tmp_path


def ask(out: Path, *words: object) -> dict[str, bytes]:
    """The files that the command writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["generate", "--out", str(out), *map(str, words)])
        generate_cli.main()
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def only_slices(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.endswith((".png", ".gz", ".dcm"))}


@pytest.mark.parametrize("label", ["tumor", "both"])
def test_the_slices_of_a_short_list_are_the_first_of_a_long_one(here: Path, label: str) -> None:
    info, weights = read_generator_info(Path("data/gan/0"))
    generator = load_packed_generator(info, weights)
    long = list(
        generate_slices(generator, info, info.sampling_request(count=65, label=label, seed=7))
    )
    for count in (1, 7, 64, 65):
        short = list(
            generate_slices(
                generator, info, info.sampling_request(count=count, label=label, seed=7)
            )
        )
        assert len(short) == count
        for (a, one), (b, other) in zip(short, long, strict=False):
            assert a == b and one.seed == other.seed and one.label == other.label
            assert one.image.tobytes() == other.image.tobytes()
            assert one.mask.tobytes() == other.mask.tobytes()


@pytest.mark.parametrize("kind", ["png", "nifti", "dicom"])
def test_files_repeat_byte_for_byte_and_do_not_depend_on_the_count(here: Path, kind: str) -> None:
    words = ("--label", "tumor", "--seed", 7, "--format", kind, "--count")
    few, again = ask(here / "a", *words, 3), ask(here / "b", *words, 3)
    assert few == again
    many = ask(here / "c", *words, 5)
    assert len(only_slices(few)) == 3 * 2
    assert only_slices(few).items() <= only_slices(many).items()


def test_another_seed_gives_other_slices(here: Path) -> None:
    one, other = (
        only_slices(ask(here / str(seed), "--count", 3, "--seed", seed)) for seed in (1, 2)
    )
    assert not set(one.values()) & set(other.values())


def test_an_index_has_the_same_slice_whether_labels_alternate_or_not(here: Path) -> None:
    both = only_slices(ask(here / "both", "--count", 6))
    tumor = only_slices(ask(here / "tumor", "--count", 6, "--label", "tumor"))
    shared = both.keys() & tumor.keys()
    assert shared
    assert all(both[name] == tumor[name] for name in shared)


def test_the_stage_and_the_command_generate_the_same_slices(here: Path) -> None:
    stage_generate.main("0")
    slices = read_slice_set(Path("data/synthetic/0"), "samples.parquet")
    info, weights = read_generator_info(Path("data/gan/0"))
    request = info.sampling_request(count=len(slices), label="both", seed=5)
    drawn = list(generate_slices(load_packed_generator(info, weights), info, request))
    assert [one.seed for _, one in drawn] == slices.table["seed"].tolist()
    for row, (_, one) in enumerate(drawn):
        assert np.array_equal(one.image, slices.images[row])
        assert np.array_equal(one.mask, slices.masks[row])


def test_every_file_says_that_it_is_synthetic(here: Path) -> None:
    words = ("--count", 2, "--label", "tumor", "--format")
    ask(here / "png", *words, "png")
    for path in (here / "png").glob("*.png"):
        assert Image.open(path).text["SyntheticData"] == "YES"
    ask(here / "nifti", *words, "nifti")
    for path in (here / "nifti").rglob("*.nii.gz"):
        header = nib.load(path).header
        assert b"SYNTHETIC" in header["descrip"].tobytes()
    for name in ("dataset_description", "FLAIR", "label-tumor_mask"):
        assert json.loads((here / f"nifti/{name}.json").read_text())["SyntheticData"] is True
    ask(here / "dicom", *words, "dicom")
    for path in (here / "dicom").rglob("*.dcm"):
        image = pydicom.dcmread(path)
        assert image.SyntheticData == "YES" and image.ImageType[0] == "DERIVED"
    for kind in ("png", "nifti", "dicom"):
        assert (here / kind / "README.md").read_text().splitlines()[2].startswith("SYNTHETIC.")


def test_the_png_files_are_an_image_folder_that_judge_reads(here: Path) -> None:
    ask(here / "out", "--count", 9)
    found, table = read_image_folder(here / "out"), pd.read_csv(here / "out/slices.csv")
    assert found.labels.tolist() == table["label"].tolist()
    assert found.masks is not None
    assert np.array_equal(found.masks.any((1, 2)), table["label"] == 1)
    assert np.allclose(found.masks.sum((1, 2)) * 9.0, table["tumor_area_mm2"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--count", "0"], "0 is too few"),
        (["--count", "1", "--seed", "-1"], "no whole number"),
        (["--count", "1", "--label", "tumour"], "'tumour' is not one of 'tumor', 'none', 'both'"),
        (["--count", "1", "--from", "elsewhere"], "elsewhere is no folder"),
        (["--count", "1", "--tumor-area-mm2", "90"], "was not taught the area"),
        (["--count", "1", "--from", "data"], "data holds 0 generators, expected one"),
    ],
)
def test_wrong_options_end_with_two_and_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        ask(here / "out", *words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not any(here.iterdir())


def test_a_folder_that_is_not_empty_is_left_as_it_is(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        ask(here, "--count", 1)
    assert ended.value.code == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["mine.txt"]


def test_a_release_has_no_generator_and_names_whom_to_ask(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "release").mkdir()
    (here / "release/release.json").write_text("{}")
    with pytest.raises(SystemExit) as ended:
        ask(here / "out", "--count", 1, "--from", here / "release")
    assert ended.value.code == 2
    assert "ask its makers for what `auglift export` writes" in capsys.readouterr().err


def test_a_generator_without_tumour_slices_ends_and_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.commands.export.standalone_generator.MAX_EMPTY_BATCHES", 2)
    monkeypatch.setattr("tasks.commands.export.standalone_generator.sample_batch", lambda *_: {})
    with pytest.raises(SystemExit) as ended:
        ask(here / "out", "--count", 1, "--label", "tumor")
    assert ended.value.code == 2
    assert "none of 128 slices agreed with its label" in capsys.readouterr().err
    assert not any(here.iterdir())


def test_two_slices_that_differ_never_share_a_name_or_a_uid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same seed and index with another asked area, licence date, version or mask threshold."""
    clone(tmp_path, conditions=("area",))
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load(Path("params.yaml").read_text())

    def draw(name: str, *words: object, **release: str) -> list[Path]:
        tree = params | {"release": params["release"] | release}
        Path("params.yaml").write_text(yaml.safe_dump(tree))
        ask(tmp_path / name, "--count", 2, "--label", "tumor", "--format", "dicom", *words)
        return sorted((tmp_path / name).rglob("*.dcm"))

    first = draw("a", "--tumor-area-mm2", 20)
    larger = draw("b", "--tumor-area-mm2", 2000)
    assert {path.parent.name for path in first}.isdisjoint(path.parent.name for path in larger)
    later = draw("c", "--tumor-area-mm2", 20, date="2001-01-01")
    newer = draw("d", "--tumor-area-mm2", 20, version="0.2.0")
    again = draw("e", "--tumor-area-mm2", 20)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in first]
    uids = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    for keyword in uids:
        seen = [
            {pydicom.dcmread(path)[keyword].value for path in paths}
            for paths in (first, larger, later, newer)
        ]
        assert len(set.union(*seen)) == sum(map(len, seen)), keyword


@pytest.mark.parametrize("pixel_mm", [1.1, 1 / 3, 0.9375])
def test_every_value_of_a_dicom_file_fits_its_representation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixel_mm: float
) -> None:
    """Sizes that no decimal string of 16 characters holds, and a seed of 19 digits."""
    clone(tmp_path)
    (tmp_path / "data/slices/stats.json").write_text(
        json.dumps({"modalities": ["FLAIR"], "pixel_mm": pixel_mm})
    )
    monkeypatch.chdir(tmp_path)
    seed = 2**63 - 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pydicom's own way to say that a value does not fit
        ask(tmp_path / "out", "--count", 2, "--seed", seed, "--format", "dicom", "--label", "tumor")
        for path in (tmp_path / "out").rglob("*.dcm"):
            dataset = pydicom.dcmread(path)
            lengths = [len(str(e.value)) for e in dataset if e.VR in ("SH", "DS") and e.VM == 1]
            assert max(lengths) <= 16
            list(dataset.iterall())


@pytest.mark.parametrize("word", ["-5", "0", "nan", "inf", "large"])
def test_an_invalid_area_is_rejected(
    here: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        ask(here / "out", "--count", 1, f"--tumor-area-mm2={word}")
    assert ended.value.code == 2
    assert "--tumor-area-mm2" in capsys.readouterr().err.splitlines()[-1]
    assert not (here / "out").exists()
