"""Let readers compare the best generators of a search (`auglift tune`), blinded.

Readers can rate few slices, so they do not rate every trial: of a finished search the generators
with the least Fréchet ratio are compared, beside real slices. `.tune/NAME/readers.json` holds the
result, by which `auglift tune --objective readers` chooses.
"""

import csv
import hashlib
import json
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks import params
from tasks.commands.review.answer_store import AnswerStore
from tasks.commands.review.study_slices import (
    MIN_PER_ORIGIN,
    SlicePool,
    StudySlice,
    join_origins,
    read_real_slices,
    spread_over_clusters,
)
from tasks.common.reader_ratings import slice_sha256
from tasks.params.generate import Generate
from tasks.stage.errors import InputError
from tasks.stage.stage_io import atomic_output

SEARCHES = Path(".tune")
GENERATORS, RESULTS = "generators", "readers.json"


def search_folder(name: str) -> Path:
    """Return the folder of a search.

    Raises:
        InputError: when no search of that name has ended.
    """
    folder = SEARCHES / name
    if not (folder / "trials.csv").exists():
        raise InputError(f"{folder}/trials.csv is missing; run `auglift tune --name {name}` first")
    return folder


def best_trials(folder: Path, count: int) -> list[int]:
    """Return the trials with the least Fréchet ratio whose generators were kept, best first.

    Raises:
        InputError: when there are not two to compare.
    """
    with (folder / "trials.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["state"] == "done"]
    rows.sort(key=lambda row: (float(row["frechet_ratio"]), int(row["trial"])))
    kept = [int(row["trial"]) for row in rows if (folder / GENERATORS / row["trial"]).is_dir()]
    if len(kept) < 2:
        raise InputError(
            f"{folder} keeps the generators of {len(kept)} trials, and readers compare two or more;"
            f" run `auglift tune --name {folder.name} --trials N` for further trials"
        )
    return kept[:count]


def read_search_pool(fold: str, folder: Path, trials: list[int], *, count: int) -> SlicePool:
    """Sample `count` slices of each trial's generator, beside the real slices of a fold.

    Slices are those that a run would generate (`generate.seed`), without the gate: it judges
    sets, and would need a set of each generator.

    Raises:
        InputError: when a generator cannot be read.
    """
    import torch

    from tasks.generate.load_generator import load_generator
    from tasks.generate.sample_generator import SamplingRequest, sample_generator

    config = params.read_section(Generate)
    torch.set_num_threads(config.threads)
    cpu = torch.device("cpu")
    request = SamplingRequest(
        count=count, seed=config.seed, tumor_share=0.5, min_island_px=config.min_island_px,
        min_tumor_px=config.min_tumor_px, attempts=config.attempts,
    )  # fmt: skip
    images: list[NDArray[np.float32]] = []
    masks: list[NDArray[np.uint8]] = []
    described: list[StudySlice] = []
    for trial in trials:
        generator = load_generator(folder / GENERATORS / str(trial), cpu)
        for row, sample in enumerate(sample_generator(generator, request, cpu)):
            image, mask = sample.image.astype(np.float32), (sample.mask > 0).astype(np.uint8)
            images.append(image)
            masks.append(mask)
            described.append(
                StudySlice(
                    "synthetic", row, sample.label, f"trial {trial} slice {row}",
                    slice_sha256(image, mask), trial,
                )
            )  # fmt: skip
    if not images:
        raise InputError(f"no generator of {folder} drew a slice that agrees with its label")
    digest = hashlib.sha256(json.dumps([each.sha256 for each in described]).encode()).hexdigest()
    real = read_real_slices(fold)
    return join_origins(real, np.stack(images), np.stack(masks), described, digest)


def choose_search_slices(pool: SlicePool, *, count: int, seed: int) -> list[StudySlice]:
    """Choose up to `count` slices: half real, the rest in equal numbers of each trial and label.

    Raises:
        InputError: when a trial has not two slices that real ones match.
    """
    rng = np.random.default_rng(seed)
    table = pd.DataFrame([vars(each) for each in pool.slices])
    trials = sorted({each.trial for each in pool.slices if each.trial is not None})
    rows: list[int] = []
    of_trial = 0
    for label in (0, 1):
        real = spread_over_clusters(
            table[(table["origin"] == "real") & (table["label"] == label)], rng
        )
        drawn = {
            trial: spread_over_clusters(
                table[(table["trial"] == trial) & (table["label"] == label)], rng
            )
            for trial in trials
        }
        each = min(count // (4 * len(trials)), len(real) // len(trials), *map(len, drawn.values()))
        of_trial += each
        rows += real[: each * len(trials)]
        rows += [row for own in drawn.values() for row in own[:each]]
    if of_trial < MIN_PER_ORIGIN:
        raise InputError(
            f"{of_trial} slices of each trial could be matched with real ones, at least"
            f" {MIN_PER_ORIGIN} are needed: raise -n, lower --best, or add validation patients"
        )
    return [pool.slices[row] for row in sorted(rows)]


def export_search(store: AnswerStore, pool: SlicePool, folder: Path) -> dict[str, dict[str, float]]:
    """Write each trial's mean score of realism, with its 95 % interval over slices.

    Readers' scores of a slice are averaged first, because they are alike.

    Raises:
        InputError: when no slice of a trial was rated.
    """
    from scipy.stats import t  # these two take seconds, which the page need not wait for

    from tasks.commands.review.export_results import collect_ratings

    ratings, _ = collect_ratings(store, pool)
    trial_of = {each.sha256: each.trial for each in store.slices}
    scores: dict[int, dict[str, list[int]]] = {}
    for rating in ratings:
        trial = trial_of[rating.slice_sha256]
        if trial is not None and "realism" in rating.scores:
            of_slice = scores.setdefault(trial, {}).setdefault(rating.slice_sha256, [])
            of_slice.append(rating.scores["realism"])
    trials = sorted({each.trial for each in store.slices if each.trial is not None})
    if missing := [trial for trial in trials if len(scores.get(trial, {})) < MIN_PER_ORIGIN]:
        raise InputError(
            f"trial {missing[0]} has fewer than {MIN_PER_ORIGIN} slices whose realism a reader"
            f" rated; run `auglift review --search {folder.name}`"
        )
    results = {}
    for trial in trials:
        means = [fmean(values) for values in scores[trial].values()]
        half = float(t.ppf(0.975, len(means) - 1)) * stdev(means) / len(means) ** 0.5
        mean = fmean(means)
        results[str(trial)] = {
            "realism": round(mean, 4), "low": round(mean - half, 4),
            "high": round(mean + half, 4), "slices": len(means),
        }  # fmt: skip
    with atomic_output(folder / RESULTS) as path:
        path.write_text(
            json.dumps({"readers": len(store.readers()), "trials": results}, indent=1) + "\n"
        )
    return results
