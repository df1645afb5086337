"""The page of the command line, from Typer's commands."""

from collections.abc import Iterator
from typing import Any

import typer

from docs.reference.markdown import table
from docs.reference.params_page import show_type

HIDDEN = {"help", "install_completion", "show_completion"}


def render() -> str:
    """Return the page."""
    from flows.cli import app

    parts = [
        "# Command line",
        "`auglift COMMAND --help` says the same. `--debug`, anywhere, shows the traceback of an"
        " unexpected error. `auglift --install-completion` installs completion for bash, zsh, fish"
        " or PowerShell. What goes wrong is one line on stderr that begins with `auglift`, and"
        " progress is shown on a terminal only.",
        "## Exit codes",
        "In a clone and in scripts, exit codes tell what happened: `0` done or accepted, `2` wrong"
        " input or could not judge, `3` rejected, refused or recalled, `1` anything else. What a"
        " command means by them stands below it.",
    ]
    for path, command in commands_of(typer.main.get_command(app), ("auglift",)):
        parts += section(path, command)
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def commands_of(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command with its words; `review` has its own application."""
    for name, below in getattr(command, "commands", {}).items():
        if path == ("auglift",) and name == "review":
            from tasks.commands.review.__main__ import app

            review = typer.main.get_command(app)
            yield ("auglift", "review"), review
            yield from commands_of(review, ("auglift", "review"))
        elif hasattr(below, "commands"):
            yield from commands_of(below, (*path, name))
        else:
            yield (*path, name), below


def section(path: tuple[str, ...], command: Any) -> Iterator[str]:
    """Yield the parts of a command's section."""
    yield f"## {' '.join(path)}"
    yield "\n\n".join(" ".join(part.split()) for part in (command.help or "").strip().split("\n\n"))
    options = [row_of(each) for each in command.params if each.name not in HIDDEN]
    if options:
        yield table(("option or argument", "value", "default", "meaning"), options)
    examples, sentences = [], []
    for paragraph in (command.epilog or "").split("\n\n"):
        words = " ".join(paragraph.split())
        example = words.removeprefix("Examples:").removeprefix("Example:").strip()
        if example.startswith(("$ ", "auglift ")):
            examples.append("    " + example.removeprefix("$ "))
        elif example:
            sentences.append(words)
    yield "\n".join(examples)
    yield "\n\n".join(sentences)


def row_of(option: Any) -> tuple[str, str, str, str]:
    """Return the row of an option or an argument."""
    names = [*option.opts, *option.secondary_opts]
    is_option = option.param_type_name == "option"
    argument = option.metavar or option.name.upper()
    shown = ", ".join(f"`{name}`" for name in names) if is_option else f"`{argument}`"
    annotation = option.type_descriptor.annotation
    value = "" if getattr(option, "is_flag", False) else option.metavar or show_type(annotation)
    default = option.default
    plain = default is None or default is ... or default is False or callable(default)
    shown_default = "required" if option.required else "" if plain else f"`{default}`"
    return shown, value, shown_default, getattr(option, "help", "") or ""
