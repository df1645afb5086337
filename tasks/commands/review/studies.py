"""Begin a study or go on with it: of a fold's accepted slices, or of a search's generators."""

from dataclasses import dataclass
from pathlib import Path

from tasks.commands.review.answer_store import STUDIES, AnswerStore
from tasks.commands.review.search_study import (
    best_trials,
    choose_search_slices,
    read_search_pool,
    search_folder,
)
from tasks.commands.review.study_slices import (
    SlicePool,
    StudySlice,
    choose_slices,
    read_slice_pool,
)
from tasks.stage.errors import InputError
from tasks.stage.item_names import check_item_name

DEFAULT_COUNT, DEFAULT_SEED, DEFAULT_BEST = 100, 0, 3


@dataclass(frozen=True)
class Study:
    """What is read: the accepted slices of a fold, or the `best` generators of a search."""

    fold: str
    search: str | None = None
    best: int = DEFAULT_BEST

    def __post_init__(self) -> None:
        """Check that the search's name can be part of a path."""
        if self.search is not None:
            try:
                check_item_name(self.search)
            except ValueError as error:
                raise InputError(f"--search {self.search!r}: {error}") from None

    @property
    def name(self) -> str:
        """The study's name in messages and file names."""
        return f"search-{self.search}" if self.search else f"fold-{self.fold}"

    @property
    def path(self) -> Path:
        """The file that keeps the study."""
        return STUDIES / f"{self.name}.db"

    def read_pool(self, count: int, trials: list[int] | None = None) -> SlicePool:
        """Read the slices that a study of `count` slices may show.

        Args:
            count: slices of the study.
            trials: of the search; None for its best ones.
        """
        if self.search is None:
            return read_slice_pool(self.fold)
        folder = search_folder(self.search)
        chosen = best_trials(folder, self.best) if trials is None else trials
        return read_search_pool(self.fold, folder, chosen, count=count)

    def choose(self, pool: SlicePool, *, count: int, seed: int) -> list[StudySlice]:
        """Choose the study's slices."""
        if self.search is None:
            return choose_slices(pool, count=count, seed=seed)
        return choose_search_slices(pool, count=count, seed=seed)


def begin_study(study: Study, *, count: int | None, seed: int | None) -> AnswerStore:
    """Choose the slices of a new study and write its file.

    Raises:
        InputError: when there are too few slices.
    """
    requested, used_seed = count or DEFAULT_COUNT, DEFAULT_SEED if seed is None else seed
    pool = study.read_pool(requested)
    chosen = study.choose(pool, count=requested, seed=used_seed)
    if len(chosen) < requested:
        print(f"{len(chosen)} slices instead of {requested}: no more match in label")
    return AnswerStore.create(
        study.path, fold=study.fold, digest=pool.digest, requested=requested, seed=used_seed,
        slices=chosen,
    )  # fmt: skip


def resume_study(study: Study) -> tuple[AnswerStore, SlicePool]:
    """Open a study that was begun, with its pixels.

    Raises:
        InputError: when none was begun, or its slices are no longer what readers saw.
    """
    store = AnswerStore(study.path)
    try:
        trials = sorted({each.trial for each in store.slices if each.trial is not None})
        pool = study.read_pool(store.requested, trials).select(store.slices)
    except BaseException:
        store.close()
        raise
    return store, pool


def open_study(
    study: Study, *, count: int | None = None, seed: int | None = None
) -> tuple[AnswerStore, SlicePool]:
    """Go on with a study, or begin it.

    Raises:
        InputError: when it was begun with another count or seed, or on other slices.
    """
    if not study.path.exists():
        begin_study(study, count=count, seed=seed).close()
    store, pool = resume_study(study)
    asked = {"--count": (count, store.requested), "--seed": (seed, store.seed)}
    for option, (value, begun) in asked.items():
        if value not in (None, begun):
            store.close()
            raise InputError(
                f"{option} {value}: the study {study.name} was begun with {begun}; leave the option"
                " out to go on with it, or add --new"
            )
    return store, pool
