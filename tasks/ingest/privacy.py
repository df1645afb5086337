"""Names become keyed hashes: nobody without the key can tell or guess whose scan a row is."""

import csv
import hmac
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from configobj import ConfigObj

from tasks.stage import StageError

KEY_VARIABLE = "AUGLIFT_KEY"
PRIVATE = Path(".private")
TABLES = PRIVATE / "dvc"
KEY_FILE = PRIVATE / "pseudonym.key"
DEMO_KEY = b"auglift demo key: public, so only for data that is public too"


def fingerprint(key: bytes) -> str:
    """Eight hexadecimal digits that tell keys apart and tell nothing about the key."""
    return sha256(b"auglift key fingerprint:" + key).hexdigest()[:8]


def load_key(expected: str) -> bytes:
    """The secret from the environment or `.private/`, else the demo key; checked against params.

    Raises:
        StageError: where it is not the key that `ingest.key_fingerprint` asks for.
    """
    if KEY_VARIABLE in os.environ:
        key, origin = os.environ[KEY_VARIABLE].encode().strip(), f"the variable {KEY_VARIABLE}"
    elif KEY_FILE.is_file():
        key, origin = KEY_FILE.read_bytes().strip(), str(KEY_FILE)
    else:
        key, origin = DEMO_KEY, "the public demo key"
    found = fingerprint(key)
    if found != expected:
        raise StageError(
            f"{origin} has the fingerprint {found}, params.yaml has ingest.key_fingerprint"
            f" {expected}; put the right key into {KEY_VARIABLE} or {KEY_FILE}, or set the"
            f" fingerprint to {found} (all pseudonyms change)"
        )
    return key


class Pseudonyms:
    """Keyed hashes (HMAC-SHA256, RFC 2104) of patients, sites and paths, each in its own space."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.public = key == DEMO_KEY

    def _hash(self, space: str, secret: str, length: int) -> str:
        message = f"{space}:{secret}".encode("utf-8", "surrogateescape")
        return hmac.new(self._key, message, sha256).hexdigest()[:length]

    def subject(self, patient: str) -> str:
        """`sub-` and 12 digits; `sub-X` and `X` are the same patient."""
        return "sub-" + self._hash("patient", bare_id(patient), 12)

    def site(self, words: str) -> str:
        """`site-` and 6 digits for an institution or a station."""
        return "site-" + self._hash("site", words, 6)

    def token(self, name: str) -> str:
        """`file-` and 16 digits for a path inside the batch."""
        return "file-" + self._hash("path", name, 16)


def bare_id(patient: str) -> str:
    """A patient's id without BIDS's prefix and without padding."""
    return patient.strip().removeprefix("sub-")


def private_folder() -> Path:
    """`.private/`, which only its owner may enter: DVC keeps its table of paths there as well."""
    PRIVATE.mkdir(exist_ok=True)
    PRIVATE.chmod(0o700)
    keep_dvc_tables()
    return PRIVATE


def keep_dvc_tables() -> None:
    """Name the folder of DVC's tables by its absolute path, in `.dvc/config.local`.

    DVC keeps a table of all paths it has hashed, by default where all users can read it.
    `.dvc/config` can only name a folder relative to where DVC was started, and DVC does not find
    it again in the temporary clones of `dvc exp run --temp` and `dvc queue start`. These get a
    copy of `config.local` and keep what it says.
    """
    file, root = Path(".dvc/config.local"), Path.cwd()
    if not file.parent.is_dir():
        return
    config = ConfigObj(str(file), encoding="utf-8")
    named = Path(str(config.get("core", {}).get("site_cache_dir", "")))
    ours = named.parts[-2:] == TABLES.parts
    if named.is_absolute() and (not ours or root.is_relative_to(named.parents[1])):
        return
    config.setdefault("core", {})["site_cache_dir"] = str(root / TABLES)
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    with partial.open("wb") as out:
        config.write(out)
    partial.replace(file)


@contextmanager
def private_table(name: str, header: Sequence[str]) -> Iterator[Callable[[Sequence[str]], object]]:
    """Give a function that writes a row of a table in `.private/`; it is in place at the end.

    Git ignores that folder, and no stage lists it as an output.
    """
    folder = private_folder()
    partial = folder / f".{name}.partial"
    try:
        with partial.open("w", newline="", errors="surrogateescape") as file:
            partial.chmod(0o600)
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            yield writer.writerow
        partial.replace(folder / name)
    finally:
        partial.unlink(missing_ok=True)
