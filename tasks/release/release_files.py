"""Write the files of a release: BIDS, PNG and DICOM trees, tables, checksums."""

import json
from pathlib import Path
from typing import Any, Final

import pandas as pd

from tasks.params.release import Release
from tasks.release import data_card, dicom_writer, nifti_writer, png_writer
from tasks.release.dicom_writer import ReleaseStamp
from tasks.release.release_contents import REAL, SYNTHETIC, ReleaseContents

PATIENT_MARK: Final = "Patient's slice in an auglift data set; pseudonymised, not anonymous"
SYNTHETIC_COLUMNS: Final = ["label", "tumor_area_mm2", "fold", "seed", "source_row"]


def write_release(
    folder: Path,
    contents: ReleaseContents,
    patients: pd.DataFrame | None,
    *,
    settings: Release,
    stats: dict[str, Any],
    digest: str,
) -> None:
    """Write all data of a release; `patients` is the table of real patients of an augmented one."""
    modalities, pixel_mm = stats["modalities"], float(stats["pixel_mm"])
    stamp = ReleaseStamp(digest, settings.version, settings.date, pixel_mm)
    write_slices(
        folder, contents, modalities=modalities, stamp=stamp, burned_in=settings.burn_in_mark
    )
    write_png_table(folder / "png", contents.table, modalities=modalities)
    write_previews(folder / "previews", contents.of_origin(SYNTHETIC))
    write_bids_tables(folder / "bids", contents.table, modalities=modalities)
    nifti_writer.write_bids_root(
        folder / "bids", modalities=modalities, version=settings.version,
        license_words=settings.license, digest=digest, skull_stripped=stats.get("skull_stripped"),
        synthetic_only=patients is None,
    )  # fmt: skip
    readme = data_card.render_bids_readme(modalities, augmented=patients is not None)
    (folder / "bids/README.md").write_text(readme)
    files = contents.table.assign(
        nifti=[nifti_path(row) for row in contents.table.to_dict("records")]
    )
    files.to_csv(folder / "slices.csv", index=False, lineterminator="\n")
    if patients is not None:
        patients.to_csv(folder / "patients.csv", index=False, lineterminator="\n")


def anat_folder(row: dict[Any, Any]) -> str:
    """Return the folder of a slice's NIfTI files in the BIDS tree."""
    return "/".join(part for part in (row["subject"], row["session"], "anat") if part)


def nifti_path(row: dict[Any, Any]) -> str:
    """Return the path of a slice's NIfTI files in the release, without suffix and ending."""
    return f"bids/{anat_folder(row)}/{row['name']}"


def write_slices(
    folder: Path,
    contents: ReleaseContents,
    *,
    modalities: list[str],
    stamp: ReleaseStamp,
    burned_in: bool,
) -> None:
    """Write every slice and mask as NIfTI and PNG, and the synthetic ones as DICOM.

    Real slices are not written as DICOM, so that none is sent to a PACS by mistake; where their
    outline is not known, they have neither mask nor PNG.
    """
    (folder / "png").mkdir()
    synthetic_mark = f"SYNTHETIC by auglift {stamp.version}, not of any person"
    rows = contents.table.to_dict("records")
    for row, image, mask in zip(rows, contents.images, contents.masks, strict=True):
        synthetic = row["origin"] == SYNTHETIC
        anat = folder / "bids" / anat_folder(row)
        anat.mkdir(parents=True, exist_ok=True)
        # A synthetic slice has a mask in any case, as the generator drew it.
        known_mask = mask if synthetic or row["mask_known"] else None
        nifti_writer.write_nifti(
            anat, row["name"], image, known_mask, modalities=modalities, pixel_mm=stamp.pixel_mm,
            mark=synthetic_mark if synthetic else PATIENT_MARK, synthetic=synthetic,
        )  # fmt: skip
        if known_mask is not None:
            png_writer.write_png(
                folder / "png", row["name"], image, mask, modalities=modalities, synthetic=synthetic
            )
        if synthetic:
            instances = folder / "dicom" / row["name"]
            instances.mkdir(parents=True)
            dicom_writer.write_dicom(
                instances, row["name"], image, mask, modalities=modalities, label=int(row["label"]),
                stamp=stamp, burned_in=burned_in,
            )  # fmt: skip


def write_png_table(folder: Path, table: pd.DataFrame, *, modalities: list[str]) -> None:
    """Write `slices.csv` of the PNG files: those of slices with a mask."""
    shown = table[(table["origin"] == SYNTHETIC) | table["mask_known"]]
    columns = shown[["subject", "label", "tumor_area_mm2", "origin", "partition"]]
    png_writer.write_slices_csv(folder, columns, shown["name"].tolist(), modalities=modalities)


def write_previews(folder: Path, synthetic: ReleaseContents) -> None:
    """Write montages of the synthetic slices, every tile marked."""
    folder.mkdir()
    subjects = [name.removeprefix("sub-") for name in synthetic.table["name"]]
    for title, montage in png_writer.montages_by_label(
        synthetic.images[:, 0], synthetic.masks, synthetic.table["label"].to_numpy(), subjects
    ):
        montage.save(folder / f"{title}.png", pnginfo=png_writer.png_marks(title, synthetic=True))


def write_bids_tables(folder: Path, table: pd.DataFrame, *, modalities: list[str]) -> None:
    """Write `participants.tsv`, and for each real patient a table of the slices and sidecars.

    A synthetic subject is one slice, so its row tells its label; of a patient, `scans.tsv` does.
    """
    people = table.drop_duplicates("subject").set_index("subject")
    columns = ["origin", "partition", *SYNTHETIC_COLUMNS]
    public = people.reindex(columns=columns)
    real = public["origin"] == REAL
    public["label"] = public["label"].astype("Int64").where(~real)
    public["tumor_area_mm2"] = public["tumor_area_mm2"].where(~real)
    public.index.name = "participant_id"
    public.to_csv(folder / "participants.tsv", sep="\t", lineterminator="\n", na_rep="n/a")
    write_json(folder / "participants.json", data_card.PARTICIPANT_COLUMNS)
    if not real.any():
        return
    write_json(folder / "scans.json", data_card.SCAN_COLUMNS)
    for (subject, session), rows in table.groupby(["subject", "session"], sort=True):
        synthetic = bool((rows["origin"] == SYNTHETIC).all())
        place = folder / str(subject) / str(session) if session else folder / str(subject)
        stem = f"{subject}_{session}" if session else str(subject)
        nifti_writer.write_subject_sidecars(place, stem, modalities=modalities, synthetic=synthetic)
        if not synthetic:
            scans = pd.concat(
                [
                    pd.DataFrame(
                        {
                            "filename": [
                                f"anat/{nifti_writer.file_name(name, suffix)}"
                                for name in rows["name"]
                            ],
                            "label": rows["label"].replace(-1, pd.NA).to_numpy(),
                            "tumor_area_mm2": rows["tumor_area_mm2"].to_numpy(),
                        }
                    )
                    for suffix in nifti_writer.suffixes(modalities)
                ]
            )
            path = place / f"{stem}_scans.tsv"
            scans.to_csv(path, sep="\t", index=False, lineterminator="\n", na_rep="n/a")


def write_json(path: Path, tree: dict[str, Any]) -> None:
    """Write JSON for people and machines."""
    path.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
