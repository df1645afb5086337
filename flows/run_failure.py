"""Define the failure of a stage, and log it without a traceback."""

import logging

ENDED = -1  # the code of a stage that was stopped together with its run
TIMED_OUT = -2  # of one that took longer than its `timeout_seconds`


class StageFailed(Exception):  # noqa: N818 - Prefect shows this name
    """A stage that failed; `code` is its exit code, `ENDED` or `TIMED_OUT`."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class WithoutTraceback(logging.Filter):
    """Log filter that hides the traceback of a failed stage or of a lost server."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop the traceback where the message says all; every record passes."""
        from httpx import TransportError  # Prefect has imported it by then

        if record.exc_info and isinstance(record.exc_info[1], StageFailed | TransportError):
            record.exc_info = None
        return True


WITHOUT_TRACEBACK = WithoutTraceback()


def hide_tracebacks() -> None:
    """Let Prefect's loggers of flows and tasks report a failed stage in one line."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(WITHOUT_TRACEBACK)
