"""Stage `release`: the accepted slices as a data set to hand over, or a refusal that says why.

Reads `data/synthetic`, `data/gate`, `data/lift.json`, `data/report.html` and
`data/approval.json`; writes `data/release/`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks import params
from tasks.common.release_candidate import Candidate, read_candidate
from tasks.params.release import Release
from tasks.release import approval, data_card, dicom_writer, nifti_writer, png_writer
from tasks.release.dicom_writer import Stamp
from tasks.schemas.lift import Lift
from tasks.schemas.metrics import read_metrics
from tasks.stage.stage_io import atomic_output
from tasks.stage.stage_runtime import run_stage


def main() -> None:
    """Write `data/release/`."""
    settings = params.read_section(Release)
    folds = [str(fold) for fold in params.read_key("slices.folds")]
    # Of another folder only the name: its path may carry names, be it relative or not.
    source = Path(str(params.read_key("synthetic.source")))
    maker = str(source) if source == Path("data/gan") else source.name
    candidate = read_candidate(folds)
    lift = read_metrics(Lift, Path("data/lift.json"))
    decision = approval.read_approval()
    stats = json.loads(Path("data/slices/stats.json").read_text())
    chosen = np.flatnonzero(candidate.samples["accepted"])
    why_not = approval.blocking_reasons(
        reasons=candidate.reasons,
        rejected=not candidate.accepted,
        accepted_slices=len(chosen),
        approval=decision,
        digest=candidate.digest,
        require_approval=settings.require_approval,
    )
    summary = {
        "status": "refused" if why_not else "released",
        "reasons": why_not,
        "version": settings.version,
        "digest": candidate.digest,
        "verdicts": {fold: gate.verdict for fold, gate in candidate.gates.items()},
        "claim": lift.claim,
        "review": approval.review(decision, candidate.digest),
        "slices": 0 if why_not else len(chosen),
        # Named, not enclosed: the page shows the slices that were learnt from.
        "report_sha256": hashlib.sha256(Path("data/report.html").read_bytes()).hexdigest(),
    }
    with atomic_output(Path("data/release")) as folder:
        if why_not:
            text = data_card.refusal(summary=summary, candidate=candidate)
            (folder / "REFUSED.md").write_text(text)
            write_json(folder / "refusal.json", summary)
        else:
            stamp = Stamp(
                candidate.digest, settings.version, settings.date, float(stats["pixel_mm"])
            )
            table = participants(candidate, chosen, pixel_mm=stamp.pixel_mm)
            write_slices(folder, candidate, table, modalities=stats["modalities"], stamp=stamp)
            write_bids(folder / "bids", table, modalities=stats["modalities"], settings=settings,
                       digest=candidate.digest, skull_stripped=stats.get("skull_stripped"),
                       )  # fmt: skip
            text = data_card.datacard(
                summary=summary, candidate=candidate, lift=lift, table=table, source=maker,
                stats=stats, settings=settings,
            )  # fmt: skip
            (folder / "DATACARD.md").write_text(text)
            write_json(folder / "release.json", summary)
            write_sums(folder)
    print("release:", f"refused: {'; '.join(why_not)}" if why_not else f"{len(chosen)} slices")


def participants(
    candidate: Candidate, chosen: np.ndarray[Any, Any], *, pixel_mm: float
) -> pd.DataFrame:
    """One row a released slice: each is a synthetic subject of its own."""
    samples = candidate.samples.iloc[chosen]
    area = candidate.masks[chosen].sum(axis=(1, 2)) * pixel_mm**2
    return pd.DataFrame(
        {
            "participant_id": [f"sub-syn{number:05d}" for number in range(1, len(chosen) + 1)],
            "label": samples["label"].to_numpy(),
            "tumor_area_mm2": area.round(1),
            "fold": samples["fold"].to_numpy(),
            "seed": samples["seed"].to_numpy(),
            "source_row": samples["row"].to_numpy(),
            "candidate_row": chosen,
        }
    )


def write_slices(
    folder: Path,
    candidate: Candidate,
    table: pd.DataFrame,
    *,
    modalities: list[str],
    stamp: Stamp,
) -> None:
    """Every slice and mask as NIfTI, PNG and DICOM, and the sheets."""
    for kind in ("png", "previews"):
        (folder / kind).mkdir()
    note = f"SYNTHETIC by auglift {stamp.version}, not of any person"
    for name, label, row in zip(
        table["participant_id"], table["label"], table["candidate_row"], strict=True
    ):
        image, mask = candidate.images[row], candidate.masks[row]
        anat, instances = folder / "bids" / name / "anat", folder / "dicom" / name
        anat.mkdir(parents=True)
        instances.mkdir(parents=True)
        nifti_writer.write(
            anat, name, image, mask, modalities=modalities, pixel_mm=stamp.pixel_mm, mark=note
        )
        dicom_writer.write(
            instances, name, image, mask, modalities=modalities, label=int(label), stamp=stamp
        )
        png_writer.write(folder / "png", name, image, mask, modalities=modalities)
    columns = table[["participant_id", "label", "tumor_area_mm2"]]
    png_writer.write_table(
        folder / "png", columns.rename(columns={"participant_id": "subject"}),
        table["participant_id"].tolist(), modalities=modalities,
    )  # fmt: skip
    rows = table["candidate_row"].to_numpy()
    subjects = [name.removeprefix("sub-") for name in table["participant_id"]]
    for title, picture in png_writer.sheets(
        candidate.images[rows, 0], candidate.masks[rows], table["label"].to_numpy(), subjects
    ):
        picture.save(folder / "previews" / f"{title}.png", pnginfo=png_writer.mark(title))


def write_bids(
    folder: Path,
    table: pd.DataFrame,
    *,
    modalities: list[str],
    settings: Release,
    digest: str,
    skull_stripped: bool | None,
) -> None:
    """The files at the root of the BIDS tree; its JSON files hold for all images below."""
    nifti_writer.write_root(
        folder, modalities=modalities, version=settings.version,
        license_words=settings.license, digest=digest, skull_stripped=skull_stripped,
    )  # fmt: skip
    public = table.drop(columns="candidate_row")
    public.to_csv(folder / "participants.tsv", sep="\t", index=False, lineterminator="\n")
    write_json(folder / "participants.json", data_card.COLUMNS)
    (folder / "README.md").write_text(data_card.bids_readme(modalities))


def write_json(path: Path, tree: dict[str, Any]) -> None:
    """Write JSON for people and machines."""
    path.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n")


def write_sums(folder: Path) -> None:
    """`SHA256SUMS` over every file, as `sha256sum --check` reads it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
        for path in paths
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


if __name__ == "__main__":
    run_stage(main)
