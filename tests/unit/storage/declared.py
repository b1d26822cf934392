"""Every table of the control plane, whichever slices a test has imported."""

from sqlalchemy import MetaData

from securellm.bootstrap.tables import TABLES
from securellm.storage import METADATA


def declared() -> MetaData:
    """METADATA with the tables of every slice."""
    assert {table.name for table in TABLES} == set(METADATA.tables)
    return METADATA
