"""Packages for other tools: whole without auglift, and the same slices."""

import ast
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from tasks.commands.export import export_cli, generate_cli
from tasks.commands.export.generator_source import count_training_patients
from tasks.commands.export.medigan_package import MODEL, PACKAGE
from tests.tasks.export_fixtures import clone

FOREIGN = {"models", "tasks", "flows", "tests"}
# https://docs.monai.io/en/latest/mb_specification.html: keys that metadata.json must have
MANDATORY = {
    "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version",
    "task", "description", "authors", "copyright", "network_data_format",
}  # fmt: skip
TENSOR = {
    "type", "format", "modality", "num_channels", "spatial_shape", "dtype", "value_range",
    "is_patch_data", "channel_def",
}  # fmt: skip


def call(module: object, *words: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["auglift", *map(str, words)])
        module.main()  # type: ignore[attr-defined]


def alone(folder: Path, *words: str) -> str:
    """Python in a folder that knows nothing of this checkout."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with an accepted generator of two channels, both exports, and drawn slices."""
    root = clone(tmp_path_factory.mktemp("clone"), modalities=("FLAIR", "T1"))
    accept(root, "accepted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        call(export_cli, "--format", "monai-bundle", "--out", "bundle")
        call(export_cli, "--format", "medigan", "--out", "medigan")
        for kind in ("nifti", "png"):
            words = ("--count", 5, "--label", "both", "--seed", 7, "--format", kind, "--out", kind)
            call(generate_cli, *words)
    return root


def accept(root: Path, verdict: str) -> None:
    (root / "data/gate/0").mkdir(parents=True, exist_ok=True)
    images = {"n": 4, "accepted": 3, "memorised": 0}
    weights = (root / "data/gan/0/generator.safetensors").read_bytes()
    attack = {"auroc": 0.52, "ci95": [0.3, 0.7], "members": 12, "non_members": 6}
    judged = {"verdict": verdict, "images": images,
              "membership": {"generator, by reconstruction": attack},
              "generator_sha256": hashlib.sha256(weights).hexdigest()}  # fmt: skip
    (root / "data/gate/0/metrics.json").write_text(json.dumps(judged))


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob(pattern)}


def test_the_bundles_modules_write_the_slices_of_the_command(workspace: Path) -> None:
    """Loaded under another name, as no tool would: they find each other all the same."""
    folder = workspace / "bundle/scripts"
    for name, file in (
        ("elsewhere", "__init__"),
        ("elsewhere.monai_components", "monai_components"),
    ):
        spec = importlib.util.spec_from_file_location(
            name, folder / f"{file}.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None and spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        if file == "monai_components":
            module.__package__ = "elsewhere"
        spec.loader.exec_module(module)
    network = module.SliceGenerator(str(workspace / "bundle/models"))
    module.write_slices(network, str(workspace / "written"), count=5, label="both", seed=7)
    assert files(workspace / "written", "*.nii.gz") == files(workspace / "nifti", "*.nii.gz")
    code = torch.cat([torch.randn(3, 8), torch.eye(2)[[0, 1, 1]]], 1)
    assert network(code[..., None, None]).shape == (3, 3, 32, 32)


@pytest.mark.verify
def test_the_bundle_runs_alone_and_writes_the_slices_of_the_command(workspace: Path) -> None:
    alone(
        workspace / "bundle", "-m", "monai.bundle", "run", "--config_file",
        "configs/inference.json", "--meta_file", "configs/metadata.json",
        "--count", "5", "--seed", "7",
    )  # fmt: skip
    drawn = files(workspace / "bundle/output", "*.nii.gz")
    assert len(drawn) == 5 * 3
    assert drawn == files(workspace / "nifti", "*.nii.gz")


@pytest.mark.verify
def test_the_bundles_network_does_what_its_metadata_say(workspace: Path) -> None:
    alone(
        workspace / "bundle", "-m", "monai.bundle", "verify_net_in_out", "network_def",
        "--config_file", "configs/inference.json", "--meta_file", "configs/metadata.json",
        "--device", "cpu",
    )  # fmt: skip


def test_the_bundles_metadata_have_every_key_of_the_specification(workspace: Path) -> None:
    metadata = json.loads((workspace / "bundle/configs/metadata.json").read_text())
    assert metadata.keys() >= MANDATORY
    data = metadata["network_data_format"]
    assert data["inputs"]["image"].keys() >= TENSOR
    assert data["outputs"]["pred"].keys() >= TENSOR
    assert data["outputs"]["pred"]["channel_def"] == {"0": "FLAIR", "1": "T1", "2": "tumour mask"}


# As medigan's ModelExecutor does: the entry says what is imported and what it is called with.
MEDIGAN = """
import importlib, json, pathlib
import numpy as np
model, entry = next(iter(json.load(open("config/global.json")).items()))
execution = entry["execution"]
method = execution["generate_method"]
package = importlib.import_module(f"models.{model}.{execution['package_name']}")
folder = f"models/{model}/{execution['package_name']}"
weights = f"{folder}/{execution['model_name']}{execution['extension']}"
words = method["args"]["custom"] | {"seed": 7}
base = dict(zip(method["args"]["base"], [weights, 5, "output", True]))
generate = getattr(package, method["name"])
assert generate(**words, **base) is None
for batch, size in enumerate([3, 2, 0]):  # as it asks for many
    folder = pathlib.Path(f"batched/batch_{batch}")
    folder.mkdir(parents=True)
    generate(**words, **base | {"num_samples": size, "output_path": f"{folder}/"})
    for path in folder.iterdir():
        path.rename(f"{folder}_{path.name}")
    folder.rmdir()
samples = generate(**words, **base | {"save_images": False})
np.savez("samples.npz", images=[s[0] for s in samples], masks=[s[1] for s in samples])
print(" ".join(label for _, _, label in samples))
"""


def test_the_medigan_package_runs_alone_and_writes_the_slices_of_the_command(
    workspace: Path,
) -> None:
    labels = alone(workspace / "medigan", "-c", MEDIGAN).split()
    drawn = files(workspace / "medigan/output", "*.png")
    assert len(drawn) == 5 * 3
    assert drawn == files(workspace / "png", "*.png")
    batched = files(workspace / "medigan/batched", "*.png")
    assert {name.split("_", 2)[2]: data for name, data in batched.items()} == drawn
    with np.load(workspace / "medigan/samples.npz") as samples:
        images, masks = samples["images"], samples["masks"]
    assert images.shape == (5, 32, 32, 2) and np.abs(images).max() <= 1
    assert [str(int(mask.any())) for mask in masks] == labels
    png = np.asarray(Image.open(sorted((workspace / "png").glob("*_mask.png"))[0]))
    assert any(np.array_equal(mask * 255, png) for mask in masks)


@pytest.mark.parametrize("package", ["bundle/scripts", f"medigan/models/{MODEL}/{PACKAGE}"])
def test_a_package_needs_nothing_of_auglift_and_holds_no_pickle(
    workspace: Path, package: str
) -> None:
    modules = sorted((workspace / package).glob("*.py"))
    assert len(modules) > 4
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not FOREIGN & {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert str(node.module).partition(".")[0] not in FOREIGN, path
            elif isinstance(node, ast.ImportFrom):
                there = [node.module] if node.module else [alias.name for alias in node.names]
                assert all((path.parent / f"{name}.py").exists() for name in there)
    assert not [
        path for path in workspace.rglob("*") if path.suffix in (".pt", ".pth", ".pkl", ".ts")
    ]


def test_the_zip_file_is_the_package(workspace: Path) -> None:
    package = workspace / "medigan/models" / MODEL / PACKAGE
    with zipfile.ZipFile(package.with_suffix(".zip")) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    assert packed == {f"{PACKAGE}/{p.name}": p.read_bytes() for p in package.glob("*.*")}


@pytest.mark.parametrize("package", ["bundle", "medigan"])
def test_a_package_gives_the_same_slices_as_the_clone(
    workspace: Path, package: str, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)  # no clone here
        words = ("--count", 5, "--seed", 7, "--out", "out", "--from", workspace / package)
        call(generate_cli, *words)
    assert files(tmp_path / "out", "*.png") == files(workspace / "png", "*.png")


@pytest.mark.parametrize("name", ["bundle", "medigan"])
def test_exports_repeat_byte_for_byte(workspace: Path, name: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        kind = "monai-bundle" if name == "bundle" else name
        call(export_cli, "--format", kind, "--out", tmp_path / "again")
    again = {str(p.relative_to(tmp_path / "again")) for p in (tmp_path / "again").rglob("*.*")}
    assert again
    for path in again:
        assert (tmp_path / "again" / path).read_bytes() == (workspace / name / path).read_bytes()


@pytest.mark.parametrize(
    ("verdict", "message"), [("rejected", "the gate rejected"), ("", "has not judged")]
)
def test_only_anyway_exports_what_the_gate_did_not_accept_and_marks_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verdict: str,
    message: str,
) -> None:
    clone(tmp_path)
    if verdict:
        accept(tmp_path, verdict)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        call(export_cli, "--format", "medigan", "--out", "out")
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()
    call(export_cli, "--format", "medigan", "--out", "out", "--anyway")
    readme = Path("out/README.md").read_text()
    assert f"drew: {verdict or 'not judged'}" in readme
    attacked = (
        "attack on generator, by reconstruction: AUROC 0.52 (0.30 to 0.70); guessing gives 0.50"
    )
    assert f"told who trained? {attacked if verdict else 'not measured'}" in readme


def test_a_verdict_on_other_weights_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fresh random weights beside the accepted verdict of their predecessor."""
    clone(tmp_path)
    accept(tmp_path, "accepted")
    monkeypatch.chdir(tmp_path)
    weights = Path("data/gan/0/generator.safetensors")
    other = {name: value * 1.01 for name, value in load_file(weights).items()}
    save_file(other, weights)
    with pytest.raises(SystemExit) as ended:
        call(export_cli, "--format", "medigan", "--out", "out")
    assert ended.value.code == 2
    assert "has not judged this generator" in capsys.readouterr().err
    call(generate_cli, "--count", 1, "--out", "drawn")
    assert "not judged" in Path("drawn/README.md").read_text()


def test_a_package_with_exchanged_weights_is_rejected(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = shutil.copytree(workspace / "bundle", tmp_path / "bundle")
    weights = packed / "models/generator.safetensors"
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights)
    with pytest.raises(SystemExit) as ended:
        call(generate_cli, "--count", 1, "--from", packed, "--out", tmp_path / "drawn")
    assert ended.value.code == 2
    assert "export the generator again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("patients", "words"),
    [(9, "learnt from 9 patients, and release.min_patients_of_generator is 10"),
     (None, "how many patients this generator learnt from is not known")],
)  # fmt: skip
def test_a_generator_of_few_patients_stays_whatever_else_is_asked(
    patients: int | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(clone(tmp_path))
    table = Path("data/slices/slices.parquet")
    known = pd.read_parquet(table).head(patients or 0)
    hidden = known.assign(subject=known["subject"] + "-hidden", label=-1)  # taught it nothing
    pd.concat([known, hidden]).to_parquet(table)
    if patients is None:
        table.unlink()
    with pytest.raises(SystemExit) as ended:
        call(export_cli, "--format", "medigan", "--out", "out", "--anyway")
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    assert not Path("out").exists()
    if patients is not None:  # had the hidden ones taught it too, they would count
        assert count_training_patients(Path("data/gan/0"), without_outlines=True) == 2 * patients
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["release"]["min_patients_of_generator"] = 0
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    call(export_cli, "--format", "medigan", "--out", "out", "--anyway")
    assert Path("out").is_dir()
