"""A wheel holds one package and works beside others of the same names."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.imports import ROOT
from tests.tasks.export_fixtures import clone

NEIGHBOUR = "MARK = 'somebody else'\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built of a copy of the sources, as `pip wheel .` builds it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("auglift", "flows", "tasks", "models"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    options = ["-q", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(out)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, with the libraries, and with packages named like ours."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "shared.pth").write_text("\n".join(shared))  # nested .pth files are not read
    for name in ("models", "tasks", "flows"):
        (packages / name).mkdir()
        (packages / name / "__init__.py").write_text(NEIGHBOUR)
    python = str(folder / "bin/python")
    options = ["-q", "--no-deps", "--no-index", "--force-reinstall", "--no-compile"]
    command = [sys.executable, "-m", "pip", "--python", python, "install", *options, str(wheel)]
    subprocess.run(command, check=True)
    return folder


def run(environment: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment in a folder without a clone."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(environment / "bin" / words[0]), *words[1:]],
        cwd=folder, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_wheel_holds_one_package_which_imports_nothing_outside_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        texts = {name: archive.read(name).decode() for name in names if name.endswith(".py")}
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"auglift"}
    outside = re.compile(
        r"""^\s*(?:from|import)\s+(?:flows|tasks|models)\b|["'](?:flows|tasks|models)\.[a-z{]""",
        re.MULTILINE,
    )
    assert not [(name, found[0]) for name, text in texts.items() if (found := outside.search(text))]
    assert "from auglift.models.dcgan import" in texts["auglift/generators.py"] or (
        "from auglift.models import dcgan" in texts["auglift/generators.py"]
    )
    for kind in ("*.j2", "*.css", "*.js", "*.toml"):
        data = {f"auglift/{path.relative_to(ROOT)}" for path in (ROOT / "tasks").rglob(kind)}
        assert data <= set(names)


def test_it_works_beside_packages_of_the_same_names(environment: Path, tmp_path: Path) -> None:
    code = (
        "import flows, models, tasks, auglift, auglift.flows.cli;"
        " import auglift.tasks.params.gate as ours;"
        " assert {flows.MARK, models.MARK, tasks.MARK} == {'somebody else'};"
        " print(ours.__file__, sorted(dir(auglift)))"
    )
    done = run(environment, tmp_path, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert str(environment) in done.stdout
    for words in (["--help"], ["judge", "--help"], ["release", "--help"]):
        done = run(environment, tmp_path, "auglift", *words)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    done = run(environment, tmp_path, "auglift", "check")
    assert done.returncode == 2
    assert "run from the root of a clone" in done.stderr


@pytest.mark.verify
@pytest.mark.timeout(1200)
def test_without_a_clone_it_draws_exports_and_judges(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clone").mkdir()
    root = clone(tmp_path / "clone")
    monkeypatch.chdir(root)
    export = ["tasks.commands.export.export_cli", "--format", "medigan", "--anyway"]
    own = tmp_path / "exported by the clone"
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *export, "--out", str(own)]
    subprocess.run(command, check=True, env=variables, cwd=root)
    here = tmp_path / "empty"
    here.mkdir()
    words = ["generate", "--count", "5", "--from", str(own), "--out", "slices"]
    done = run(environment, here, "auglift", *words)
    assert done.returncode == 0, done.stderr
    assert len(list((here / "slices").glob("*_mask.png"))) == 5
    again = ["export", *export[1:], "--from", str(own), "--out", "again"]
    done = run(environment, here, "auglift", *again)
    assert done.returncode == 0, done.stderr
    ours = {str(path.relative_to(own)): path.read_bytes() for path in own.rglob("*.py")}
    theirs = here / "again"
    assert ours == {str(p.relative_to(theirs)): p.read_bytes() for p in theirs.rglob("*.py")}
    code = (
        "import auglift; slices = auglift.Generator.load('again').sample(5);"
        " print(slices.images.shape); auglift.judge(slices, slices)"
    )
    done = run(environment, here, "python", "-c", code)
    assert "(5, 1," in done.stdout
    assert "InputError" in done.stderr.splitlines()[-1] or "Error" in done.stderr.splitlines()[-1]
