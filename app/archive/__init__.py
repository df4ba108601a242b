"""The archive: the log as Parquet files in a folder or an object store."""

from app.archive.read import Archived, ArchiveError
from app.archive.write import Writer

__all__ = ["ArchiveError", "Archived", "Writer"]
