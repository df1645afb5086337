"""Keep secrets of the environment out of logs, messages, artifacts and params.

A secret is the value of a variable that is named like one, such as `AWS_SECRET_ACCESS_KEY`,
`AUGLIFT_KEY` or `PACS_PASSWORD`, and the password inside an address.
"""

import os
import re
from pathlib import Path

from tasks import params
from tasks.stage.errors import InputError

SECRET_NAME = re.compile(r"(^|_)(KEY|SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(_|$)")
URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):([^/\s@]+)@")
MIN_LENGTH = 8  # a shorter value would be found in harmless words
HIDDEN = "***"


def find_secrets() -> dict[str, str]:
    """Return the secrets of this process's environment, by the name of their variable."""
    found = {}
    for name, value in os.environ.items():
        password = URL_PASSWORD.search(value)
        secret = value if SECRET_NAME.search(name.upper()) else password[2] if password else ""
        if len(secret) >= MIN_LENGTH and not Path(secret).exists():  # a key file's path is none
            found[name] = secret
    return found


def hide_secrets(text: str) -> str:
    """Replace every secret in a text, and every password inside an address."""
    for secret in find_secrets().values():
        text = text.replace(secret, HIDDEN)
    return URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text)


def check_params_hold_no_secret() -> None:
    """Check that no value of `params.yaml`, or of this run, is a secret of the environment.

    Raises:
        InputError: naming the key and the variable, without the secret.
    """
    secrets = find_secrets()
    for key, value in params.leaf_values(params.load_params()):
        for name, secret in secrets.items():
            if isinstance(value, str) and secret in value:
                raise InputError(
                    f"params.yaml: {key} holds the secret of the variable {name}; take it out:"
                    " params are logged and versioned, secrets come from the environment"
                )
