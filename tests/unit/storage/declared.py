"""Every table of the control plane, whichever slices a test has imported."""

from importlib import import_module
from pathlib import Path

from sqlalchemy import MetaData

import securellm
from securellm.storage import METADATA


def declared() -> MetaData:
    """METADATA with the tables of every slice."""
    for store in sorted(Path(securellm.__file__).parent.glob("*/store.py")):
        import_module(f"securellm.{store.parent.name}.store")
    return METADATA
