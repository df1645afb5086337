"""Write the phantom batch: a BIDS folder of simulated patients, a third of them as DICOM."""

import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from tasks import params
from tasks.params.phantom import Phantom
from tasks.phantom import dicom_writer, mni_atlas, nifti_writer
from tasks.phantom.simulator import SimulatedPatient, Simulator
from tasks.stage.processes import init_worker_process
from tasks.stage.stage_io import atomic_output
from tasks.stage.stage_runtime import run_stage

DISK_STREAM = 100
PROCESSES = 2
UNKNOWN = "n/a"  # BIDS's word


def main() -> None:
    """Simulate the cohort and write it to `data/raw/phantom`."""
    config = params.read_section(Phantom)
    with atomic_output(Path("data/raw/phantom")) as root:
        rows = pd.DataFrame(write_patients(root, config))
        rows.to_csv(root / "participants.tsv", sep="\t", index=False)
        (root / "participants.json").write_text(json.dumps(PARTICIPANTS_COLUMNS, indent=2) + "\n")
        (root / "dataset_description.json").write_text(
            json.dumps(dataset_description(), indent=2) + "\n"
        )


def write_patients(root: Path, config: Phantom) -> list[dict[str, object]]:
    """Write every patient; return the rows of `participants.tsv` in their order."""
    mni_atlas.load_atlas()  # before the fork, so that the processes share it
    write_one = partial(write_patient, root, seed=config.seed)
    outlined = config.patients if config.outlined is None else config.outlined
    # Each patient depends on its index alone, so who writes it changes no byte. One BLAS thread
    # each: these products are small, and waiting threads would cost more than they save.
    with (
        threadpool_limits(1),
        ProcessPoolExecutor(
            PROCESSES, mp_context=get_context("fork"), initializer=init_worker_process
        ) as pool,
    ):
        indices = range(config.patients)
        return list(pool.map(write_one, indices, (index < outlined for index in indices)))


def write_patient(root: Path, index: int, outlined: bool = True, *, seed: int) -> dict[str, object]:
    """Simulate one patient and write it in the format of its kind; return its row."""
    patient = Simulator(seed).patient(index)
    rng = np.random.default_rng([seed, index, DISK_STREAM])
    if patient.kind.format == "dicom":
        dicom_writer.write_dicom(root, patient, rng, seed=seed, outlined=outlined)
    else:
        nifti_writer.write_nifti(root, patient, rng, outlined=outlined)
    return participants_row(patient, outlined)


def participants_row(patient: SimulatedPatient, outlined: bool) -> dict[str, object]:
    """Return one row of `participants.tsv`; nothing is known of a tumour that nobody outlined."""
    return {
        "participant_id": patient.participant_id,
        "site": patient.kind.site,
        "format": patient.kind.format,
        "tumor": int(patient.kind.tumor) if outlined else UNKNOWN,
        "slices": patient.mask.shape[2],
        "tumor_slices": int(patient.mask.any((0, 1)).sum()) if outlined else UNKNOWN,
    }


PARTICIPANTS_COLUMNS = {
    "site": {"Description": "The simulated scanner"},
    "format": {"Description": "dicom: below sourcedata/; nifti: below the participant's folder"},
    "tumor": {
        "Description": "Whether a tumour was simulated; n/a: there is no mask",
        "Levels": {"0": "no", "1": "yes"},
    },
    "slices": {"Description": "Axial slices of the volume"},
    "tumor_slices": {"Description": "Slices with at least one voxel of tumour; n/a: no mask"},
}


def dataset_description() -> dict[str, object]:
    """Return BIDS's `dataset_description.json`."""
    return {
        "Name": "auglift phantom: simulated FLAIR examinations, no patients",
        "BIDSVersion": "1.10.0",
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": "auglift", "Description": "tasks.phantom"}],
        "SourceDatasets": [{"URL": "https://nilearn.github.io", "Version": "MNI152 (nilearn)"}],
    }


if __name__ == "__main__":
    run_stage(main)
