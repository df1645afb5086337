"""`params.yaml`: what is wrong with it is one line that names the key, the finding, the remedy."""

from pathlib import Path

import pytest

from tasks import params
from tasks.params.pool import Pool
from tasks.stage.errors import InputError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pool: {ration: 1, min_images: 5, seed: 1}", "unknown key pool.ration, did you mean 'rat"),
        ("pool: {ratio: -1, min_images: 5, seed: 1}", "pool.ratio is -1: Input should be greater"),
        ("pool: {ratio: 1, min_images: many, seed: 1}", "pool.min_images is 'many'"),
        ("pool: {min_images: 5, seed: 1}", "pool.ratio is missing; add it"),
        ("pols: {}", "unknown section 'pols', did you mean 'pool'"),
        ("pool: [", "not valid YAML"),
        ("", "expected sections, found nothing"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        params.read_section(Pool)
    assert words in str(caught.value)


def test_a_key_of_another_section_is_read_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("slices: {folds: [a, 1]}")
    assert params.read_key("slices.folds") == ["a", 1]
    with pytest.raises(InputError, match=r"slices\.size is missing"):
        params.read_key("slices.size")
