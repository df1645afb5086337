"""Put a library's error into words that quote nothing of the file."""

MEANINGS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((MemoryError,), "more memory needed than a worker may take"),
    ((EOFError,), "it ends before its content does"),
    ((NotImplementedError,), "it uses a part of its format that cannot be read here"),
    ((RecursionError,), "its parts are nested without end"),
    ((AttributeError, LookupError), "a part that its format calls for is missing"),
    ((ValueError, TypeError, ArithmeticError), "a value in it is none that its format allows"),
    ((OSError,), "it breaks off or cannot be read"),
)


def one_line_error(error: Exception) -> str:
    """Return what an error means, without its text, which may quote names.

    The class of an exception tells a user nothing, so the meaning is given by its kind.
    """
    for kinds, meaning in MEANINGS:
        if isinstance(error, kinds):
            return meaning
    return "its content contradicts its format"
