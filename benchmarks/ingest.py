"""Ingest beside dcm2niix and dicom2nifti, on MR series written from NIfTI volumes.

Run from the repository's root: `python benchmarks/ingest.py VOLUMES [--series N]`, with a folder
of NIfTI files (`../shared/data/lgg`). Each tool converts the same series to gzipped NIfTI; wall
time and peak memory (of the process and its children together) are printed. Needs the wheels
`dcm2niix` and `dicom2nifti`. A second ingest with ten times the patients shows the memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.tasks.dicom_cases import write_series  # noqa: E402

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


def main() -> None:
    """Write the series, run the tools in turn, print a table as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("volumes", type=Path)
    parser.add_argument("--series", type=int, default=60)
    parser.add_argument("--times", type=int, default=10, help="patients of the memory run")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        slices = write_batch(options.volumes, room / "data/raw/bench", options.series)
        (room / "params.yaml").write_text("ingest: {}\n")
        print(json.dumps({"series": options.series, "slices": slices, "cores": os.cpu_count()}))
        for repeat in range(options.repeats):
            for tool, command in commands(room, repeat).items():
                row = {"tool": tool, "repeat": repeat} | measure(command, room)
                row["volumes_per_second"] = round(options.series / row["seconds"], 2)
                print(json.dumps(row), flush=True)
        if options.times > 1:
            write_batch(options.volumes, room / "data/raw/large", options.series * options.times)
            command = [sys.executable, "-m", "tasks.ingest", "large"]
            row = {"tool": f"auglift, {options.times} times the patients"}
            print(json.dumps(row | measure(command, room)))


def write_batch(volumes: Path, folder: Path, count: int) -> int:
    """Write so many 16-bit series, each of its own patient; return the number of slices."""
    images = sorted(path for path in volumes.rglob("*.nii.gz") if "derivatives" not in path.parts)
    slices = 0
    for number in range(count):
        data = np.asarray(nib.load(images[number % len(images)]).dataobj)
        noise = np.random.default_rng(number).integers(0, 8, data.shape)
        pixels = (data.astype(np.uint16) * 8 + noise).transpose(2, 1, 0).astype(np.uint16)
        write_series(folder / f"{number:05d}", pixels, patient=f"P{number}", seed=str(number))
        slices += len(pixels)
    return slices


def commands(room: Path, repeat: int) -> dict[str, list[str]]:
    """Each tool on all cores, writing into a folder of its own."""
    import dcm2niix

    raw = room / "data/raw/bench"
    for tool in ("dcm2niix", "dicom2nifti", "alone"):
        (room / f"{tool}{repeat}").mkdir()
    niix = (
        f"ls {raw} | xargs -P {os.cpu_count()} -I@ {dcm2niix.bin} -b n -z y -f @"
        f" -o {room}/dcm2niix{repeat} {raw}/@ > /dev/null"
    )
    return {
        "auglift": [sys.executable, "-m", "tasks.ingest", "bench"],
        "dcm2niix -z y, a process a series on all cores": ["bash", "-c", niix],
        "dcm2niix -z y, one process": [
            dcm2niix.bin, "-b", "n", "-z", "y", "-f", "%i", "-d", "9",
            "-o", str(room / f"dcm2niix{repeat}"), str(raw),
        ],
        "dicom2nifti, one process as it comes": [
            sys.executable, "-c", DICOM2NIFTI_ALONE, str(raw), str(room / f"alone{repeat}"),
        ],
        "dicom2nifti, all cores": [
            sys.executable, "-c", DICOM2NIFTI, str(raw), str(room / f"dicom2nifti{repeat}"),
        ],
    }  # fmt: skip


def measure(command: list[str], room: Path) -> dict[str, float]:
    """Wall and processor seconds, and the peak of the process tree's proportional memory."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=room, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    peak, over = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.05):
            peak = max(peak, tree_memory(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - start
    over.set()
    watcher.join()
    if code:
        raise SystemExit(f"{command[0]} ended with {code}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(spent, 2),
        "peak_MiB": round(peak / 2**20),
    }


def tree_memory(pid: int) -> int:
    """Proportional set size of a process and its descendants, in bytes."""
    total = 0
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        process = Path(f"/proc/{current}")
        try:
            for line in (process / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
            for task in (process / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return total


if __name__ == "__main__":
    main()
