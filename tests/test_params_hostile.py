"""Whatever a name or a text in `params.yaml` is, no shell runs it and no path leads elsewhere."""

import copy
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from flows import preflight
from tasks import params
from tasks.stage.errors import InputError
from tasks.stage.item_names import check_item_name
from tests.flows import dag_with_quick_stages, toy_pipeline
from tests.flows.in_process import run_auglift

HOSTILE = (
    "ward$(touch pwned)7", "`touch pwned`", "a;touch pwned", "a|touch pwned", "a\ntouch pwned",
    "ward 7", "site/a", "ward@7", "..", ".", "", "../raw", "../raw/phantom", "a/../../raw", "~",
    "/etc", "../../../x", "../../../../x", "-rf", "--help", ".hidden", "_x", "'", '"', "a'b\"c",
    "${item}", "${data}", "{{ x }}", "{% x %}", "a\0b", "a\tb", "=cmd|' /C calc'!A0", "<script>x",
    "a.dvc", "dvc.yaml", "a.partial", "a\u00a0b", "🧠", "*", "#",
    "!x",
)  # fmt: skip
ODD = ("null", "a\u202eb", "x" * 300)  # one folder and one word for DVC and the shell
USUAL = ("phantom", "ward7", "Süd-1", "UCSF_2024.b", "日本", "7", "0")
# Section, key, its stage, the option of its command, where its output lies.
ITEMS = (
    ("data", "batches", "ingest", "batch", "volumes/{}"),
    ("slices", "folds", "train_gan", "fold", "gan/{}"),
    ("slices", "folds", "generate", "fold", "synthetic/{}"),
    ("slices", "folds", "gate", "fold", "gate/{}"),
    ("downstream", "arms", "downstream", "arm", "downstream/classify-{}"),
    ("downstream", "tasks", "downstream", "task", "downstream/{}-real"),
)
names = st.one_of(
    st.sampled_from(HOSTILE + ODD),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.text("./-_+a0 $;'\n~", min_size=1, max_size=8),
    st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,9}\Z"),
)
quick = settings(
    max_examples=25, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository with the real `dvc.yaml` and `.dvcignore`; it is the current folder."""
    root = dag_with_quick_stages.make_repo(tmp_path_factory.mktemp("hostile") / "repo")
    shutil.copy(toy_pipeline.ROOT / "dvc.yaml", root / "dvc.yaml")
    (root / "data/raw/phantom").mkdir()
    before = Path.cwd()
    os.chdir(root)
    yield root
    os.chdir(before)


TREE = yaml.safe_load((toy_pipeline.ROOT / "params.yaml").read_text())
TREE["downstream"] |= {"tasks": ["classify"], "arms": ["real"]}
STAGES = yaml.safe_load((toy_pipeline.ROOT / "dvc.yaml").read_text())["stages"]


def put(root: Path, section: str, **values: Any) -> dict[str, Any]:
    """Write `params.yaml` with other values in a section; JSON is YAML, and quickly written."""
    tree = copy.deepcopy(TREE)
    tree[section] |= values
    (root / "params.yaml").write_text(json.dumps(tree, ensure_ascii=False))
    return tree


@pytest.mark.parametrize("name", HOSTILE)
def test_no_hostile_name_leads_dvc_to_run_it_or_to_remove_anything(name: str, repo: Path) -> None:
    put(repo, "data", batches=[name])
    keep_only(repo, "ingest")
    with pytest.raises((DvcException, AssertionError)), Repo(str(repo)) as opened:
        opened.stage.collect("ingest")


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item[2]}-{item[3]}")
@quick
@given(name=names)
def test_dvc_refuses_a_name_or_makes_one_word_and_one_folder_of_it(
    item: tuple[str, str, str, str, str], name: str, repo: Path
) -> None:
    section, key, stage, option, place = item
    put(repo, section, **{key: [name]})
    keep_only(repo, stage)
    try:
        with Repo(str(repo)) as opened:
            (only,) = opened.stage.collect(stage)
    except (DvcException, AssertionError):
        return
    words = shlex.split(only.cmd)
    assert words[words.index(f"--{option}") + 1] == name
    assert str(only.outs[0].fs_path) == str(repo / "data" / place.format(name))
    assert not set(name) & set(" /$;'\"\n~`|&<>*?()")


def keep_only(root: Path, stage: str) -> None:
    """Leave one stage of the real `dvc.yaml`, which is read the faster."""
    (root / "dvc.yaml").write_text(json.dumps({"stages": {stage: STAGES[stage]}}))


@pytest.mark.parametrize("name", USUAL)
def test_usual_names_pass_everywhere(name: str, repo: Path) -> None:
    assert check_item_name(name) == name
    put(repo, "data", batches=[name])
    keep_only(repo, "ingest")
    with Repo(str(repo)) as opened:
        (only,) = opened.stage.collect("ingest")
    assert shlex.split(only.cmd)[-2:] == ["--batch", name]


@quick
@given(name=names)
def test_what_dvc_would_refuse_or_the_shell_would_split_is_no_word(name: str) -> None:
    try:
        check_item_name(name)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    assert shlex.quote(name) == name or not name.isascii()
    assert Path("a", name).parent == Path("a")


def texts(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """The dotted keys of a model whose values may be text, or lists of it."""
    for key, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from texts(inner, f"{before}{key}.")
        elif may_be_text(inner):
            yield f"{before}{key}"


def may_be_text(annotation: Any) -> bool:
    if get_origin(annotation) is None:
        return annotation is str
    return any(may_be_text(part) for part in get_args(annotation))


KEYS = [
    f"{name}.{key}" for name in params.SECTIONS for key in texts(preflight.section_model(name))
]  # fmt: skip


def test_the_keys_that_hold_text_are_found() -> None:
    assert {"data.batches", "slices.folds", "synthetic.source", "train_gan.start_from",
            "downstream.arms", "release.license", "release.version"} <= set(KEYS)  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
@settings(quick, max_examples=10)
@given(text=names)
@example(text="$(touch pwned)")
def test_check_says_in_one_line_what_is_wrong_with_a_text_and_touches_nothing(
    key: str, text: str, repo: Path
) -> None:
    section, *inner = key.split(".")
    tree = put(repo, section)
    at = tree[section]
    for word in inner[:-1]:
        at = at.setdefault(word, {})
    at[inner[-1]] = [text] if isinstance(at.get(inner[-1]), list) else text
    put(repo, section, **tree[section])
    (repo / ".private").mkdir(exist_ok=True)
    before = seen(repo.parent)
    try:
        preflight.check_clone()
    except InputError as error:
        assert "\n" not in str(error) and str(error).isprintable()
        assert "params.yaml" in str(error)
    assert seen(repo.parent) == before


def seen(folder: Path) -> set[str]:
    """Every path below a folder, without what DVC keeps for itself."""
    return {
        str(path) for path in folder.rglob("*")
        if not {".dvc", ".git", ".private"} & set(path.parts)
    }  # fmt: skip


@pytest.mark.parametrize("words", [["ward$(touch pwned)7"], ["--batch", ".."]], ids=" ".join)
def test_a_stage_refuses_a_name_in_one_line(words: list[str], repo: Path) -> None:
    done = toy_pipeline.run_module(repo, "tasks.ingest", *words)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"ingest: batch {words[-1]!r}: a name has letters, digits, '.', '-', '_', and begins with a"
        " letter or digit; change it in params.yaml"
    ]


def test_a_name_that_leads_elsewhere_costs_no_file_though_dvc_is_asked_for_it_alone(
    repo: Path,
) -> None:
    shutil.copy(toy_pipeline.ROOT / "dvc.yaml", repo / "dvc.yaml")
    (repo / "data/raw/ward7").mkdir()
    (repo / "data/raw/ward7/scan").write_text("the only copy")
    before = seen(repo.parent)
    for section, key, stage, name in (
        ("data", "batches", "ingest", ".."),
        ("data", "batches", "ingest", "../raw/ward7"),
        ("data", "batches", "ingest", "ward$(touch pwned)7"),
        ("slices", "folds", "gate", ".."),
    ):
        put(repo, section, **{key: [name]})
        with pytest.raises(DvcException) as caught, Repo(str(repo)) as opened:
            opened.reproduce([f"{stage}@{name}"], single_item=True)
        assert "is ignored by .dvcignore" in str(caught.value)
        assert seen(repo.parent) == before


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ("  seed: 11\n", "  seed: 11\n  seed: 12\n", "seed"),
        ("lift:\n", "gate: {}\nlift:\n", "gate"),
        ("{steps: 80, batch: 16,", "{steps: 80, steps: 9, batch: 16,", "steps"),
    ],
)
def test_a_key_given_twice_is_named_with_its_line(
    before: str, after: str, key: str, repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (toy_pipeline.ROOT / "params.yaml").read_text()
    changed = text.replace(before, after, 1)
    at = 1 + changed[: changed.index(after) + after.rindex(key)].count("\n")
    (repo / "params.yaml").write_text(changed)
    for call in (preflight.check_clone, params.load_params):
        with pytest.raises(InputError) as caught:
            call()
        assert f"the key {key!r} stands twice in one section, again on line {at};" in str(
            caught.value
        )
    assert run_auglift("check") == 2
    assert capsys.readouterr().err.splitlines() == [f"auglift: {caught.value}"]


def test_yaml_is_read_as_dvc_reads_it(repo: Path) -> None:
    """YAML 1.1 takes 010 for 8 and `on` for true; DVC's folders would be named otherwise."""
    put(repo, "data")
    text = (toy_pipeline.ROOT / "params.yaml").read_text()
    (repo / "params.yaml").write_text(text.replace("folds: [0]\n", "folds: [010, on]\n"))
    keep_only(repo, "gate")
    assert params.read_key("slices.folds") == [10, "on"]
    with Repo(str(repo)) as opened:
        assert {stage.name for stage in opened.stage.collect("gate")} == {"gate@10", "gate@on"}
