"""Files that are whole or not there at all, and tables in them; and where this package lies."""

import csv
import os
import secrets
from contextlib import contextmanager
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def as_path(path):
    """Return a path to a file as a `pathlib.Path`.

    Args:
        path: a text or a `pathlib.Path`. (A number would be taken for a file that is open already, by `open`.)

    Raises:
        TypeError: if it is anything else.
        ValueError: if it names no file.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise TypeError(
            f"A file is named by a text or a pathlib.Path. Received: {path!r} of type {type(path).__name__}. "
            "Pass for instance 'run.npz'."
        )
    if not Path(path).name or "\0" in os.fspath(path):
        raise ValueError(f"A file needs a name. Received: {os.fspath(path)!r}. Pass for instance 'run.npz'.")
    return Path(path)


@contextmanager
def atomic_writer(path, mode="wb", **opening):
    """Open a file to write; an older file of that name stays whole until the new one is complete.

    What is written goes to a scratch file beside it, `NAME.xxxxxxxx.part`, which takes the place of `path` in one go
    when the block ends, and is removed if the block raises. Only a process that is killed leaves its scratch file.

    Args:
        path: where the file is to be.
        mode: `"wb"` or `"w"`, as for `open`.
        **opening: the other arguments of `open`, such as `encoding`.

    Yields:
        The open file.

    Raises:
        TypeError, ValueError: if `path` is no path, or has no name.
        OSError: if there is a folder or a device, or if the file cannot be written.
    """
    target = Path(os.path.realpath(as_path(path)))  # through a link, as `open` would, rather than in the link's place
    if target.exists() and not target.is_file():  # root would put a file in the place of /dev/null
        raise OSError(
            "A file is written beside its place, and put there when it is complete. "
            f"Received: {os.fspath(path)!r}, where a {'folder' if target.is_dir() else 'device or pipe'} is. "
            "Name a file."
        )
    scratch = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        with open(scratch, mode.replace("w", "x"), **opening) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the new name with nothing behind it
        os.replace(scratch, target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_csv(path, header, rows):
    """Write a table as comma-separated values, in UTF-8; an older file of that name stays whole until it is complete.

    Numbers are written in as few digits as read back as the same number; what is not finite as `nan`, `inf`, `-inf`.

    Args:
        path: where to write.
        header: names of the columns.
        rows: any iterable of rows, each with one value a column; asked for one row at a time.

    Returns:
        The path written, a `pathlib.Path`.

    Raises:
        ValueError: if a row has another number of values than the header.
    """
    header = list(header)
    with atomic_writer(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        for number, row in enumerate(rows):
            if len(row) != len(header):
                raise ValueError(
                    f"Each row of a table has one value for each of its {len(header)} columns {header}. "
                    f"Received: row {number} with {len(row)}, {row!r}. Give every row all columns."
                )
            table.writerow(row)
    return Path(path)
