import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.masks.label_conventions import BINARY, CONVENTIONS, conventions_table
from tasks.ingest.masks.label_values import binarise_greys, binarise_labels
from tasks.params.ingest import LabelConvention


def labels(*values: int) -> np.ndarray:
    """Return one voxel of each value, and one background voxel."""
    return np.array([0, *values], np.int16).reshape(1, 1, -1)


def merged(values: tuple[int, ...], rule: str | list[int], convention: str | None) -> set[int]:
    """Return the values that count as tumour."""
    data = labels(*values)
    return set(data[binarise_labels(data, rule, convention) != 0].tolist())


@pytest.mark.parametrize(
    ("convention", "values", "whole", "core", "enhancing"),
    [
        ("brats-2012-2020", (1, 2, 4), {1, 2, 4}, {1, 4}, {4}),
        ("brats-2012-2020", (1, 2, 3, 4), {1, 2, 3, 4}, {1, 3, 4}, {4}),
        ("brats-2021-2023", (1, 2, 4), {1, 2, 4}, {1, 4}, {4}),
        ("brats-2021-2023", (1, 2, 3), {1, 2, 3}, {1, 3}, {3}),
        ("brats-2021-2023", (1, 2), {1, 2}, {1}, set()),
        ("brats-2024", (1, 2, 3, 4), {1, 2, 3}, {1, 3}, {3}),
        ("brats-2024", (4,), set(), set(), set()),
        ("brats-ped", (1, 2, 3, 4), {1, 2, 3, 4}, {1, 2, 3}, {1}),
        ("brats-ped-2023", (1, 2, 3), {1, 2, 3}, {1, 3}, {3}),
        ("brats-men", (1, 2, 3), {1, 2, 3}, {1, 3}, {3}),
        ("brats-met", (1, 2, 3, 4), {1, 2, 3}, {1, 3}, {3}),
        ("msd-brain-tumour", (1, 2, 3), {1, 2, 3}, {2, 3}, {3}),
        ("ucsf-pdgm", (1, 2, 4), {1, 2, 4}, {1, 4}, {4}),
        ("upenn-gbm", (1, 2, 4), {1, 2, 4}, {1, 4}, {4}),
        ("glistrboost", (1, 2, 4), {1, 2, 4}, {1, 4}, {4}),
    ],
)
def test_a_convention_gives_the_values_of_its_regions(
    convention: str, values: tuple[int, ...], whole: set[int], core: set[int], enhancing: set[int]
) -> None:
    assert merged(values, "whole", convention) == whole
    assert merged(values, "core", convention) == core
    assert merged(values, "enhancing", convention) == enhancing


@pytest.mark.parametrize(
    ("convention", "values", "rule"),
    [
        (None, (1, 2, 3, 4), "whole"),  # a cavity, oedema or tumour: nobody knows
        (None, (1, 2, 3, 4), "enhancing"),
        (None, (1, 2, 3), "core"),
        (None, (1,), "core"),
        (None, (1, 4), "whole"),
        (None, tuple(range(1, 12)), "whole"),  # an atlas
        (None, (-1, 1), "whole"),
        ("brats-2021-2023", (1, 2, 3, 4), "whole"),
        ("brats-2012-2020", (1, 2, 5), "whole"),
        ("brats-2024", (255,), "whole"),
        ("brats-ped", (1, 2, 3), "enhancing"),  # 2023's and 2024's names are alike
        ("brats-men-rt", (1,), "core"),
        ("mu-glioma-post", (1, 2, 3), "enhancing"),  # sources contradict each other
        ("lumiere", (1, 2, 3), "enhancing"),
        (BINARY, (1, 2), "whole"),
        (BINARY, (1,), "enhancing"),
    ],
)
def test_values_that_no_convention_explains_are_rejected(
    convention: str | None, values: tuple[int, ...], rule: str
) -> None:
    with pytest.raises(RejectionError) as rejection:
        merged(values, rule, convention)
    assert rejection.value.code == "labels-unknown"


def test_without_a_convention_unambiguous_values_decide() -> None:
    assert merged((1, 2, 4), "enhancing", None) == {4}
    assert merged((1, 2, 3), "whole", None) == {1, 2, 3}
    assert merged((255,), "whole", None) == {255}
    assert merged((), "core", None) == set()


def test_sources_that_contradict_each_other_agree_on_the_whole_tumour() -> None:
    assert merged((1, 2, 3, 4), "whole", "mu-glioma-post") == {1, 2, 3}
    assert merged((1, 2, 3), "whole", "lumiere") == {1, 2, 3}
    assert merged((1, 2, 3), "core", "lumiere") == {1, 2}


def test_a_list_of_values_wins_and_is_empty_only_if_the_convention_has_the_others() -> None:
    assert merged((3, 9), [9], "brats-2024") == {9}
    assert merged((2,), [1, 4], "brats-2012-2020") == set()
    with pytest.raises(RejectionError, match="labels-unknown"):
        merged((255,), [1], None)


@given(
    st.sampled_from([*CONVENTIONS, BINARY, None]),
    st.sets(st.integers(1, 6), min_size=1, max_size=5),
)
def test_the_regions_are_nested_and_never_hold_a_cavity(
    convention: str | None, values: set[int]
) -> None:
    regions = {}
    for region in ("enhancing", "core", "whole"):
        try:
            regions[region] = merged(tuple(values), region, convention)
        except RejectionError:
            continue
    for inner, outer in (("enhancing", "core"), ("core", "whole"), ("enhancing", "whole")):
        if inner in regions and outer in regions:
            assert regions[inner] <= regions[outer]
    if convention in ("brats-2024", "brats-met", "mu-glioma-post"):
        assert all(4 not in region for region in regions.values())


def test_every_convention_can_be_named_in_params() -> None:
    assert set(get_args(LabelConvention)) == {*CONVENTIONS, BINARY}
    assert all(reading.source for readings in CONVENTIONS.values() for reading in readings)


def test_soft_edges_of_a_drawn_mask_are_cut_at_half_the_maximum() -> None:
    data = labels(*[255] * 30, 40, 90, 130, 200)
    assert binarise_greys(data, "whole", lossy=False).sum() == 32


@pytest.mark.parametrize(
    ("values", "lossy"), [((85, 170, 170, 255), False), ((1, 2, 4), True), ((85, 84, 255), True)]
)
def test_scaled_or_blurred_labels_are_no_drawn_mask(values: tuple[int, ...], lossy: bool) -> None:
    with pytest.raises(RejectionError, match="labels-unknown"):
        binarise_greys(labels(*values), "whole", lossy=lossy)


def test_the_document_holds_the_table_of_conventions() -> None:
    document = (Path(__file__).parents[2] / "docs/ingest.md").read_text(encoding="utf-8")
    assert conventions_table() in document, (
        "python -m tasks.ingest.masks.label_conventions docs/ingest.md"
    )


def test_every_layout_names_a_known_convention() -> None:
    table = Path(__file__).parents[2] / "tasks/ingest/filenames/layouts.toml"
    named = set(re.findall(r'^\s*labels = "(.+)"', table.read_text(encoding="utf-8"), re.MULTILINE))
    assert named and named <= {*CONVENTIONS, BINARY}
