"""Files that are dear to make, kept in memory and written where a test wants them."""

from pathlib import Path


def read_files(root: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path in it."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def write_files(root: Path, files: dict[str, bytes]) -> None:
    """Write what `read_files` read."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
