"""Prefect flows and the command line `auglift`. Nothing here imports torch."""

import os
from pathlib import Path

from flows.proxy_bypass import bypass_proxy

# Prefect and DVC read these when they are first imported. By default nothing is sent anywhere.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")

# A temporary Prefect server starts faster and stays quiet with these.
os.environ.setdefault("PREFECT_API_BLOCKS_REGISTER_ON_START", "false")
os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "ERROR")
# Its runs stay in the clone, unless the user has configured Prefect already.
if "PREFECT_HOME" not in os.environ and not (Path.home() / ".prefect/profiles.toml").exists():
    os.environ["PREFECT_HOME"] = str(Path(".prefect").resolve())

# Behind a proxy, requests to a server on this machine would go to it. Child processes inherit this.
bypass_proxy()
