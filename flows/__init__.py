"""Front doors: the Prefect flows and the command line. Never torch."""

import os

# Read when Prefect and DVC are first imported. Nothing is sent anywhere by default.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
