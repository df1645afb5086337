"""Replace names by keyed hashes: only the holder of the key can tell whose scan a row describes."""

import hmac
import os
from hashlib import sha256

from tasks.ingest.privacy.private_files import PRIVATE
from tasks.stage.errors import InputError

KEY_VARIABLE = "AUGLIFT_KEY"
KEY_FILE = PRIVATE / "pseudonym.key"
DEMO_KEY = b"auglift demo key: public, so only for data that is public too"


def key_fingerprint(key: bytes) -> str:
    """Compute eight hexadecimal digits that distinguish keys and reveal nothing about the key."""
    return sha256(b"auglift key fingerprint:" + key).hexdigest()[:8]


def load_key(expected: str) -> bytes:
    """Load the secret key from the environment or `.private/`, else the demo key.

    Raises:
        InputError: the key's fingerprint is not `ingest.key_fingerprint`.
    """
    if KEY_VARIABLE in os.environ:
        key, origin = os.environ[KEY_VARIABLE].encode().strip(), f"the variable {KEY_VARIABLE}"
    elif KEY_FILE.is_file():
        key, origin = KEY_FILE.read_bytes().strip(), str(KEY_FILE)
    else:
        key, origin = DEMO_KEY, "the public demo key"
    fingerprint = key_fingerprint(key)
    if fingerprint != expected:
        raise InputError(
            f"{origin} has the fingerprint {fingerprint}, params.yaml has ingest.key_fingerprint"
            f" {expected}; put the right key into {KEY_VARIABLE} or {KEY_FILE}, or set the"
            f" fingerprint to {fingerprint} (all pseudonyms change)"
        )
    return key


class Pseudonyms:
    """Keyed hashes (HMAC-SHA256, RFC 2104) of patients, sites and paths, each kind hashed apart.

    `public` is whether the key is the public demo key.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.public = key == DEMO_KEY

    def _hash(self, space: str, secret: str, length: int) -> str:
        message = f"{space}:{secret}".encode("utf-8", "surrogateescape")
        return hmac.new(self._key, message, sha256).hexdigest()[:length]

    def subject(self, patient: str) -> str:
        """Return `sub-` and 12 hexadecimal digits; `sub-X` and `X` are the same patient."""
        return "sub-" + self._hash("patient", strip_sub_prefix(patient), 12)

    def site(self, site_name: str) -> str:
        """Return `site-` and 6 hexadecimal digits for an institution or a station."""
        return "site-" + self._hash("site", site_name, 6)

    def file_token(self, name: str) -> str:
        """Return `file-` and 16 hexadecimal digits for a path inside the batch."""
        return "file-" + self._hash("path", name, 16)


def strip_sub_prefix(patient: str) -> str:
    """Return a patient's ID without BIDS's prefix `sub-` and without surrounding blanks."""
    return patient.strip().removeprefix("sub-")
