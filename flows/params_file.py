"""Edit `params.yaml` in place: comments, order and quotes stay, and the file is replaced whole."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.tokens import CommentToken


def edit_params(path: Path, edit: Callable[[Any], None]) -> None:
    """Apply a change to a `params.yaml`.

    Args:
        path: The file.
        edit: Receives the parsed file, a tree of mappings and lists, and changes it.
    """
    changed = edited_text(path.read_text(encoding="utf-8"), edit)
    partial = path.with_suffix(".partial")
    partial.write_text(changed, encoding="utf-8")
    partial.replace(path)


def edited_text(text: str, edit: Callable[[Any], None]) -> str:
    """Return the text of a `params.yaml` after a change of its tree."""
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 4096
    editor.indent(mapping=2, sequence=4, offset=2)
    editor.representer.add_representer(
        type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    tree = editor.load(text)
    edit(tree)
    changed = io.StringIO()
    editor.dump(tree, changed)
    return changed.getvalue()


def append_item(items: Any, item: str) -> None:
    """Append an item to a list of a parsed file, before the comments that follow the list."""
    last = len(items) - 1
    tokens = items.ca.items.get(last)
    items.append(item)
    if tokens and tokens[0] is not None:
        own, newline, following = tokens[0].value.partition("\n")
        if following:
            start = tokens[0].start_mark
            items.ca.items[last + 1] = [CommentToken(newline + following, start, None), None]
            if own.strip():
                tokens[0].value = own + newline
            else:
                del items.ca.items[last]
