"""The rows of a data file, whatever its format: JSON lines, a JSON array, CSV, Parquet, a data set.

    mine.jsonl, mine.json, mine.csv, mine.tsv, mine.parquet     each also with .gz behind it
    openai/gsm8k:main:train                                     a data set of the hub, or a folder:
                                                                name[:configuration][:split]

What the rows mean is for problems.py to say. Nothing of a data set is run: none of its own code,
and no pickle. Left out: Excel, SQL, archives of several files, streaming.
"""

import csv
import gzip
import io
import json
import zlib
from pathlib import Path
from typing import NamedTuple

csv.field_size_limit(2**31 - 1)  # the default, 131,072 characters, is less than a long solution


class DataError(ValueError):
    """Data that cannot be used; the message names file, line and remedy."""


class Row(NamedTuple):
    values: dict  # by the name of the column
    where: str  # for messages: line 3, row 3


def read_rows(source):
    """The rows of a file, of a folder or of a data set of the hub: list[Row].

    Raises DataError.
    """
    path = Path(source)
    if path.is_file():
        return read_file(path)
    name, *rest = str(source).split(":")
    if path.is_dir() or Path(name).is_dir() or is_hub_id(name):
        return read_data_set(*([str(source)] if path.is_dir() else [name, *rest]))
    try:
        path.read_bytes()
        reason = "not a file"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise DataError(
        f"{source}: cannot be read ({reason}). Give --data a JSONL, JSON, CSV or Parquet file, or "
        "a data set such as openai/gsm8k:main:train."
    )


def absolute(source):
    """The source as it is found from any folder; a name of the hub stays as it is."""
    name, colon, rest = source.partition(":")
    if source and Path(source).exists():
        return str(Path(source).resolve())
    return f"{Path(name).resolve()}{colon}{rest}" if name and Path(name).is_dir() else source


def is_hub_id(name):
    """owner/name, where no file is meant."""
    parts = name.split("/")
    known = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz")
    return len(parts) == 2 and all(parts) and parts[0][0] not in ".~" and not name.endswith(known)


def read_file(path):
    """The rows of one file; compression and Parquet are known by their first bytes."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}). Give --data a "
            "JSONL, JSON, CSV or Parquet file."
        ) from None
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if content[:4] == b"PAR1":
        return read_parquet(path, content)
    if suffix in (".csv", ".tsv"):
        return read_csv(path, content, "," if suffix == ".csv" else "\t")
    if content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[":
        return read_array(path, content)
    return read_lines(path, content)


def decode(content, where):
    """Bytes as text."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{where}: not UTF-8. Save the file as UTF-8.") from None


def parse(text, where, must):
    """JSON text as a value; `must` says what it should have been."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error}). {must}") from None


def as_row(value, path, where):
    if isinstance(value, dict):
        return Row(value, where)
    raise DataError(f'{path}, {where}: not an object. Write {{"problem": "...", "answer": "..."}}.')


def read_lines(path, content):
    """JSON lines; blank ones are skipped."""
    rows = []
    for number, line in enumerate(content.splitlines(), start=1):
        where = f"line {number}"
        if line.strip():
            text = decode(line, f"{path}, {where}")
            value = parse(text, f"{path}, {where}", "Each line must be one object.")
            rows.append(as_row(value, path, where))
    return rows


def read_array(path, content):
    """One JSON array of objects."""
    values = parse(decode(content, path), path, "It must be an array of objects.")
    return [as_row(value, path, f"row {i}") for i, value in enumerate(values, start=1)]


def read_csv(path, content, delimiter):
    """Comma or tab separated values, with the names of the columns in the first line."""
    table = csv.DictReader(io.StringIO(decode(content, path), newline=""), delimiter=delimiter)
    rows = []
    try:
        for number, values in enumerate(table, start=1):
            if None in values:
                raise DataError(
                    f"{path}, row {number}: more cells than the first line names columns. Put "
                    "quotes around a cell that has a comma in it."
                )
            rows.append(Row(values, f"row {number}"))
    except csv.Error as error:
        raise DataError(f"{path}: not CSV ({error}). Save it again, or as JSON lines.") from None
    return rows


def read_parquet(path, content):
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path} is a Parquet file: pip install pyarrow") from None
    try:
        values = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
    except Exception as error:  # a broken file can make the library raise anything
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: not Parquet ({reason}). Fetch the file again.") from None
    return [Row(value, f"row {i}") for i, value in enumerate(values, start=1)]


def read_data_set(name, configuration=None, split="train"):
    """A data set of the hub, or a folder of the same form, through the library that knows them."""
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"{name} is a folder or a data set of the hub, which needs: pip install datasets"
        ) from None
    try:
        table = datasets.load_dataset(name, configuration or None, split=split)
        return [Row(dict(value), f"row {i}") for i, value in enumerate(table, start=1)]
    except Exception as error:  # of the network, of the hub, of any format
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].removesuffix(".")
        raise DataError(
            f"the data set {name} cannot be read: {reason}. Write it as "
            "name:configuration:split, such as openai/gsm8k:main:train."
        ) from None
