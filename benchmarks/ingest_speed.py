"""Time ingest beside dcm2niix and dicom2nifti, on MR series written from NIfTI volumes.

Run from the repository's root: `python benchmarks/ingest_speed.py VOLUMES`, with a folder of NIfTI
files (`../shared/data/lgg`). Each tool converts the same series to gzipped NIfTI, on the same
cores, in turn for several rounds; a round runs all tools, so that a busy machine slows all alike.
Printed for each run: wall and processor seconds and the peak memory of the process tree; then
the medians with auglift's throughput over each tool's, by wall and by processor time; then the
least the work can cost (read the bytes once, hash, compress and write them, in one process).

Last come two runs of auglift alone (`--rounds 0`: these only), the second with each series copied
to ten patients. `peak_MiB` is the largest sum of the processes' memory, sampled ten times a
second; `high_water_MiB` the sum of each process's own peak by the kernel, which
neither the sampling nor the chance that two peaks coincide can change. The last lines (`--held`:
these only) count the bytes that are kept of each patient, file and volume until a batch ends.
Needs the wheels `dcm2niix` and `dicom2nifti`.
"""

import argparse
import gc
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.tasks.dicom_cases import write_series  # noqa: E402

AUGLIFT = "auglift"
OUT = "out"
DICOM2NIFTI_ALONE = """
import sys, warnings, dicom2nifti
warnings.simplefilter("ignore")
dicom2nifti.convert_directory(sys.argv[1], sys.argv[2], reorient=False)
"""
DICOM2NIFTI = """
import sys, pathlib, warnings, dicom2nifti
from concurrent.futures import ProcessPoolExecutor
warnings.simplefilter("ignore")
source, out = map(pathlib.Path, sys.argv[1:])
def one(folder):
    dicom2nifti.dicom_series_to_nifti(folder, out / f"{folder.name}.nii.gz")
with ProcessPoolExecutor() as pool:
    list(pool.map(one, sorted(source.iterdir())))
"""
LEAST = """
import hashlib, pathlib, sys
from isal import isal_zlib
source, out = map(pathlib.Path, sys.argv[1:])
for folder in sorted(source.iterdir()):
    files = [path.read_bytes() for path in sorted(folder.iterdir())]
    total = hashlib.sha256()
    for content in files:
        total.update(content)
    (out / f"{folder.name}.gz").write_bytes(isal_zlib.compress(b"".join(files), 1, 31))
"""


def main() -> None:
    """Write the series, run the tools in turn, print rows as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("volumes", type=Path)
    parser.add_argument("--series", type=int, default=120)
    parser.add_argument("--times", type=int, default=10, help="patients of the memory run; 0: none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--held", action="store_true", help="count held bytes, nothing else")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        if options.held:
            count_held(workspace)
            return
        slices = write_batch(options.volumes, workspace / "data/raw/bench", options.series)
        (workspace / "params.yaml").write_text("ingest: {}\n")
        files = [path.stat().st_size for path in (workspace / "data/raw/bench").rglob("*.dcm")]
        print_json(
            series=options.series, slices=slices, MB=round(sum(files) / 1e6), cores=count_cores()
        )
        rows: dict[str, list[dict[str, float]]] = {}
        for number in range(options.rounds):
            for tool, command in tool_commands(workspace).items():
                (workspace / OUT).mkdir()
                row = run_and_measure(command, workspace)
                rows.setdefault(tool, []).append(row)
                print_json(tool=tool, round=number, **row)
                for written in (OUT, "data/volumes"):
                    shutil.rmtree(workspace / written, ignore_errors=True)
        if rows:
            print_comparison(rows, options.series)
        if options.times:
            compare_memory(options, workspace)
            count_held(workspace)


def print_json(**facts: Any) -> None:
    """Print one JSON line."""
    print(json.dumps(facts), flush=True)


def count_cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def write_batch(volumes: Path, folder: Path, count: int) -> int:
    """Write so many 16-bit series, each of its own patient; return the number of slices."""
    images = sorted(path for path in volumes.rglob("*.nii.gz") if "derivatives" not in path.parts)
    slices = 0
    for number in range(count):
        data = np.asarray(nib.load(images[number % len(images)]).dataobj)
        noise = np.random.default_rng(number).integers(0, 8, data.shape)
        pixels = (data.astype(np.uint16) * 8 + noise).transpose(2, 1, 0).astype(np.uint16)
        write_series(folder / f"{number:05d}", pixels, patient=patient_id(number), seed=str(number))
        slices += len(pixels)
    return slices


def patient_id(number: int) -> str:
    """Return an ID of a fixed length."""
    return f"P{number:06d}"


def copy_patients(few: Path, many: Path, times: int) -> None:
    """Copy each series under several patients' IDs: the same volumes, only more often."""
    folders = sorted(few.iterdir())
    for number in range(len(folders) * times):
        original = number % len(folders)
        (many / f"{number:05d}").mkdir(parents=True)
        for path in folders[original].iterdir():
            content = path.read_bytes()
            renamed = content.replace(patient_id(original).encode(), patient_id(number).encode())
            (many / f"{number:05d}" / path.name).write_bytes(renamed)


def tool_commands(workspace: Path) -> dict[str, list[str]]:
    """Return each tool's command, writing into a folder of its own."""
    import dcm2niix

    raw = workspace / "data/raw/bench"
    out = workspace / OUT
    niix = (
        f"ls {raw} | xargs -P {count_cores()} -I@ {dcm2niix.bin} -b n -z y -f @ -o {out}"
        f" {raw}/@ > /dev/null"
    )
    python = [sys.executable, "-c"]
    return {
        AUGLIFT: [sys.executable, "-m", "tasks.ingest", "bench"],
        "dcm2niix -z y, a process a series on all cores": ["bash", "-c", niix],
        "dcm2niix -z y, one process": [
            dcm2niix.bin, "-b", "n", "-z", "y", "-f", "%i", "-d", "9", "-o", str(out),
            str(raw),
        ],
        "dicom2nifti, all cores": [*python, DICOM2NIFTI, str(raw), str(out)],
        "dicom2nifti, one process as it comes": [
            *python, DICOM2NIFTI_ALONE, str(raw), str(out),
        ],
        "least, one process": [*python, LEAST, str(raw), str(out)],
    }  # fmt: skip


def print_comparison(rows: dict[str, list[dict[str, float]]], series: int) -> None:
    """Print medians over the rounds, and the ratios within each round."""
    for tool, tool_rows in rows.items():
        seconds = statistics.median(row["seconds"] for row in tool_rows)
        ratios = {
            f"auglift_over_it_by_{key}": round(
                statistics.median(
                    row[key] / auglift_row[key]
                    for row, auglift_row in zip(tool_rows, rows[AUGLIFT], strict=True)
                ),
                2,
            )
            for key in ("seconds", "cpu_seconds")
        }
        print_json(
            tool=tool,
            volumes_per_second=round(series / seconds, 2),
            cpu_seconds=statistics.median(row["cpu_seconds"] for row in tool_rows),
            peak_MiB=max(row["peak_MiB"] for row in tool_rows),
            **(ratios if tool != AUGLIFT else {}),
        )


def compare_memory(options: argparse.Namespace, workspace: Path) -> None:
    """Compare the peak with many times the patients and that with fewer."""
    copy_patients(workspace / "data/raw/bench", workspace / "data/raw/large", options.times)
    for batch, factor in (("bench", 1), ("large", options.times)):
        command = [sys.executable, "-m", "tasks.ingest", batch]
        print_json(
            tool=AUGLIFT, patients=options.series * factor, **run_and_measure(command, workspace)
        )


def count_held(folder_of_run: Path) -> None:
    """Count what the first process keeps, by tracemalloc, of 300 patients with 40 files each."""
    from tasks.ingest.conversion.convert_patient import PatientResult
    from tasks.ingest.discover import find_patients
    from tasks.ingest.files.batch_files import list_batch_files
    from tasks.ingest.files.dicom_index import DicomFileIndex
    from tasks.ingest.files.zip_archives import scratch_folder
    from tasks.ingest.output.batch_report import open_report
    from tasks.ingest.patients.batch_context import BatchContext
    from tasks.ingest.privacy.pseudonyms import DEMO_KEY, Pseudonyms
    from tasks.ingest.user_tables.owner_tables import read_owner_tables
    from tasks.params.ingest import Ingest

    names, patients, files = Pseudonyms(DEMO_KEY), 300, 40
    tiny = np.ones((2, 2), np.uint16)
    write_series(folder_of_run / "one", np.stack([tiny] * files), patient=patient_id(0))
    os.chdir(folder_of_run)
    for number in range(patients):
        folder = Path("dicom") / patient_id(number)
        folder.mkdir(parents=True)
        for path in sorted(Path("one").iterdir()):
            content = path.read_bytes().replace(patient_id(0).encode(), patient_id(number).encode())
            (folder / path.name).write_bytes(content)
        for index in range(files):
            target = Path(f"nifti/sub-{number:03d}/sub-{number:03d}_run-{index}_FLAIR.nii")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"0")
    for batch in ("dicom", "nifti"):
        with scratch_folder(batch) as scratch, open_report(batch, names) as account:
            tables, dicom_files = read_owner_tables(Path(batch)), DicomFileIndex(scratch / "files")
            plan = BatchContext(Path("volumes"), dicom_files, Ingest(), names, [], tables.files)
            tracemalloc.start()
            files_by_kind = list_batch_files(
                Path(batch), scratch, dicom_files, Ingest(), account.reject
            )
            found = find_patients(files_by_kind, tables, plan, account)
            gc.collect()
            held = tracemalloc.get_traced_memory()[0]
            print_json(batch=batch, bytes_a_patient=round(held / len(found)),
                bytes_a_file=round(held / len(found) / files))  # fmt: skip
            before = tracemalloc.get_traced_memory()[0]
            for number in range(patients):
                account.add_patient(
                    PatientResult(rows=[manifest_row(names.subject(patient_id(number)))])
                )
            held = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
    print_json(bytes_a_volume=round(held / patients))


def manifest_row(subject: str) -> dict[str, Any]:
    """Return a manifest's row."""
    return {
        "subject": subject, "session": "ses-01", "modality": "FLAIR", "evidence": "description",
        "image": f"{subject}/{subject}_ses-01_FLAIR.nii.gz", "mask": None,
        "mask_status": "missing", "shape": [256, 256, 36], "spacing_mm": [1.1, 0.9, 5.5],
        "orientation": "RAS", "source_format": "dicom", "source_sha256": "0" * 64,
        "site": "unknown", "synthetic": False, "patient_known": True, "label": None, "brain": None,
    }  # fmt: skip


def run_and_measure(command: list[str], workspace: Path) -> dict[str, float]:
    """Measure wall and processor seconds, and the process tree's peak proportional memory."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    errors = workspace / "stderr.txt"
    with errors.open("w") as output:
        process = subprocess.Popen(
            command, cwd=workspace, env=environment, stdout=subprocess.DEVNULL, stderr=output
        )
    peak, over = 0, threading.Event()
    high_water: dict[int, int] = {}

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.1):
            now, highest = tree_memory(process.pid)
            peak = max(peak, now)
            high_water.update(highest)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - start
    over.set()
    watcher.join()
    if code:
        said = errors.read_text(errors="replace").strip().rpartition("\n")[2]
        raise SystemExit(f"{' '.join(command[1:])} ended with {code}: {said}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(spent, 2),
        "peak_MiB": round(peak / 2**10),
        "high_water_MiB": round(sum(high_water.values()) / 2**10),
    }


def tree_memory(pid: int) -> tuple[int, dict[int, int]]:
    """Sum a process tree's proportional memory now, and read each process's own peak, in KiB."""
    total, highest = 0, {}
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        process = Path(f"/proc/{current}")
        try:
            for line in (process / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
            for line in (process / "status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    highest[current] = int(line.split()[1])
            for task in (process / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return total, highest


if __name__ == "__main__":
    main()
