"""Define the error that ends a stage or a command in one line, and the exit codes."""

WRONG_INPUT, INTERRUPTED = 2, 130


class InputError(Exception):
    """Wrong input, in one line: what was found, what was expected, what to do next."""
