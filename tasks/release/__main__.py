"""Stage `release`: write the accepted slices as a data set to hand over, or say why it is refused.

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
from tasks.common.release_candidate import ReleaseCandidate, read_candidate
from tasks.params.release import Release
from tasks.release import approval, data_card, dicom_writer, nifti_writer, png_writer
from tasks.release.dicom_writer import ReleaseStamp
from tasks.schemas.lift import Lift
from tasks.schemas.metrics import read_metrics
from tasks.stage.stage_io import atomic_output
from tasks.stage.stage_runtime import run_stage


def main() -> None:
    """Write `data/release/`."""
    settings = params.read_section(Release)
    folds = [str(fold) for fold in params.read_key("slices.folds")]
    # Only the name of any other folder: its path may contain names, be it relative or not.
    source = Path(str(params.read_key("synthetic.source")))
    source_name = str(source) if source == Path("data/gan") else source.name
    candidate = read_candidate(folds)
    lift = read_metrics(Lift, Path("data/lift.json"))
    decision = approval.read_approval()
    stats = json.loads(Path("data/slices/stats.json").read_text())
    accepted_rows = np.flatnonzero(candidate.samples["accepted"])
    blocking = approval.blocking_reasons(
        reasons=candidate.reasons,
        rejected=not candidate.accepted,
        accepted_slices=len(accepted_rows),
        approval=decision,
        digest=candidate.digest,
        require_approval=settings.require_approval,
    )
    summary = {
        "status": "refused" if blocking else "released",
        "reasons": blocking,
        "version": settings.version,
        "digest": candidate.digest,
        "verdicts": {fold: gate.verdict for fold, gate in candidate.gates.items()},
        "claim": lift.claim,
        "review": approval.describe_review(decision, candidate.digest),
        "slices": 0 if blocking else len(accepted_rows),
        # Named, not enclosed: the page shows training slices.
        "report_sha256": hashlib.sha256(Path("data/report.html").read_bytes()).hexdigest(),
    }
    with atomic_output(Path("data/release")) as folder:
        if blocking:
            text = data_card.render_refusal(summary=summary, candidate=candidate)
            (folder / "REFUSED.md").write_text(text)
            write_json(folder / "refusal.json", summary)
        else:
            stamp = ReleaseStamp(
                candidate.digest, settings.version, settings.date, float(stats["pixel_mm"])
            )
            table = tabulate_participants(candidate, accepted_rows, pixel_mm=stamp.pixel_mm)
            write_slices(folder, candidate, table, modalities=stats["modalities"], stamp=stamp)
            write_bids(folder / "bids", table, modalities=stats["modalities"], settings=settings,
                       digest=candidate.digest, skull_stripped=stats.get("skull_stripped"),
                       )  # fmt: skip
            text = data_card.render_data_card(
                summary=summary, candidate=candidate, lift=lift, table=table, source=source_name,
                stats=stats, settings=settings,
            )  # fmt: skip
            (folder / "DATACARD.md").write_text(text)
            write_json(folder / "release.json", summary)
            write_checksums(folder)
    print(
        "release:",
        f"refused: {'; '.join(blocking)}" if blocking else f"{len(accepted_rows)} slices",
    )


def tabulate_participants(
    candidate: ReleaseCandidate, rows: np.ndarray[Any, Any], *, pixel_mm: float
) -> pd.DataFrame:
    """Tabulate one row a released slice: each is a synthetic subject of its own."""
    samples = candidate.samples.iloc[rows]
    area = candidate.masks[rows].sum(axis=(1, 2)) * pixel_mm**2
    return pd.DataFrame(
        {
            "participant_id": [f"sub-syn{number:05d}" for number in range(1, len(rows) + 1)],
            "label": samples["label"].to_numpy(),
            "tumor_area_mm2": area.round(1),
            "fold": samples["fold"].to_numpy(),
            "seed": samples["seed"].to_numpy(),
            "source_row": samples["row"].to_numpy(),
            "candidate_row": rows,
        }
    )


def write_slices(
    folder: Path,
    candidate: ReleaseCandidate,
    table: pd.DataFrame,
    *,
    modalities: list[str],
    stamp: ReleaseStamp,
) -> None:
    """Write every slice and mask as NIfTI, PNG and DICOM, and the montages."""
    for kind in ("png", "previews"):
        (folder / kind).mkdir()
    mark = f"SYNTHETIC by auglift {stamp.version}, not of any person"
    for name, label, row in zip(
        table["participant_id"], table["label"], table["candidate_row"], strict=True
    ):
        image, mask = candidate.images[row], candidate.masks[row]
        anat, instances = folder / "bids" / name / "anat", folder / "dicom" / name
        anat.mkdir(parents=True)
        instances.mkdir(parents=True)
        nifti_writer.write_nifti(
            anat, name, image, mask, modalities=modalities, pixel_mm=stamp.pixel_mm, mark=mark
        )
        dicom_writer.write_dicom(
            instances, name, image, mask, modalities=modalities, label=int(label), stamp=stamp
        )
        png_writer.write_png(folder / "png", name, image, mask, modalities=modalities)
    columns = table[["participant_id", "label", "tumor_area_mm2"]]
    png_writer.write_slices_csv(
        folder / "png", columns.rename(columns={"participant_id": "subject"}),
        table["participant_id"].tolist(), modalities=modalities,
    )  # fmt: skip
    rows = table["candidate_row"].to_numpy()
    subjects = [name.removeprefix("sub-") for name in table["participant_id"]]
    for title, montage in png_writer.montages_by_label(
        candidate.images[rows, 0], candidate.masks[rows], table["label"].to_numpy(), subjects
    ):
        montage.save(
            folder / "previews" / f"{title}.png", pnginfo=png_writer.synthetic_chunks(title)
        )


def write_bids(
    folder: Path,
    table: pd.DataFrame,
    *,
    modalities: list[str],
    settings: Release,
    digest: str,
    skull_stripped: bool | None,
) -> None:
    """Write the files at the root of the BIDS tree; its JSON files hold for all images below."""
    nifti_writer.write_bids_root(
        folder, modalities=modalities, version=settings.version,
        license_words=settings.license, digest=digest, skull_stripped=skull_stripped,
    )  # fmt: skip
    public = table.drop(columns="candidate_row")
    public.to_csv(folder / "participants.tsv", sep="\t", index=False, lineterminator="\n")
    write_json(folder / "participants.json", data_card.PARTICIPANT_COLUMNS)
    (folder / "README.md").write_text(data_card.render_bids_readme(modalities))


def write_json(path: Path, tree: dict[str, Any]) -> None:
    """Write JSON for people and machines."""
    path.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n")


def write_checksums(folder: Path) -> None:
    """Write `SHA256SUMS` over every file, in the format of `sha256sum --check`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
        for path in paths
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


if __name__ == "__main__":
    run_stage(main)
