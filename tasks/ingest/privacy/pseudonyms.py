"""Names become keyed hashes: nobody without the key can tell or guess whose scan a row is."""

import hmac
import os
from hashlib import sha256

from tasks.ingest.privacy.private_files import PRIVATE
from tasks.stage.errors import InputError

KEY_VARIABLE = "AUGLIFT_KEY"
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
        raise InputError(
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

    def file_token(self, name: str) -> str:
        """`file-` and 16 digits for a path inside the batch."""
        return "file-" + self._hash("path", name, 16)


def bare_id(patient: str) -> str:
    """A patient's id without BIDS's prefix and without padding."""
    return patient.strip().removeprefix("sub-")
