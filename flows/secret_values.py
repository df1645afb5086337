"""Keep secrets of the environment out of logs, messages, artifacts and params.

A secret is the value of a variable that is named like one, such as `AWS_SECRET_ACCESS_KEY`,
`AUGLIFT_KEY` or `PACS_PASSWORD`, and the password inside an address.
"""

import os
import re

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
        # A key file's path is none. Path.exists would raise, with the secret, where it is long.
        if len(secret) >= MIN_LENGTH and not os.path.exists(secret):  # noqa: PTH110
            found[name] = secret
    return found


def hide_secrets(text: str) -> str:
    """Replace every secret in a text, and every password inside an address."""
    for secret in hidden_texts():
        text = text.replace(secret, HIDDEN)
    return URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text)


def hidden_texts() -> list[str]:
    """Return what must not be seen: each secret, and each line of one, the longest first.

    A log shows a secret of several lines, such as a private key, line by line. A secret may be the
    beginning of another one, whose end would be left.
    """
    texts = set(find_secrets().values())
    texts |= {line.strip() for secret in texts for line in secret.splitlines()}
    return sorted((text for text in texts if len(text) >= MIN_LENGTH), key=len, reverse=True)


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
