"""How a stage or a run ends when it does not end well."""

import logging

ENDED = -1  # the code of a stage that was ended with its run


class StageFailed(Exception):  # noqa: N818 - it is what happened, as Prefect shows it
    """A stage that did not end well; `code` is its exit code, or `ENDED`."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class WithoutTraceback(logging.Filter):
    """Logs of a stage that failed, or of a server that is gone, without a call stack."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop the traceback of what needs none; every record passes."""
        from httpx import TransportError  # Prefect has imported it by then

        if record.exc_info and isinstance(record.exc_info[1], StageFailed | TransportError):
            record.exc_info = None
        return True


WITHOUT_TRACEBACK = WithoutTraceback()


def hide_tracebacks() -> None:
    """Let Prefect's loggers of flows and tasks say how a stage failed in one line."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(WITHOUT_TRACEBACK)
