"""Write the first step of the control plane's schema from the tables that the slices declare (until the first release).

Later steps are written by hand, one file each, and never changed once released.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.types import TypeEngine

from securellm.bootstrap.tables import TABLES
from securellm.storage import columns
from securellm.storage.tables import METADATA, TENANT_SCOPED

ROOT = Path(__file__).parent.parent / "src" / "securellm"
TARGET = ROOT / "storage" / "migrations" / "versions" / "v0001.py"

WORDS = {repr(word): name for name, word in vars(columns).items() if name.isupper() and isinstance(word, TypeEngine)}

HEAD = '''"""The first schema of the control plane."""

from alembic import op
from sqlalchemy import {names}

from securellm.storage.archive import raise_archive
from securellm.storage.columns import {words}
from securellm.storage.walls import raise_wall

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table, and on PostgreSQL the wall around each tenant's rows."""
{body}
    raise_archive(op.get_bind())
    op.execute("INSERT INTO data_version (one, version) VALUES (1, 0)")
'''


def main() -> None:
    engine = create_engine("sqlite://")

    def render(kind: str, item: object, _context: object) -> str | Literal[False]:
        if kind == "type" and isinstance(item, TypeEngine):
            name = WORDS.get(repr(item))
            if name is None:
                sys.exit(f"{item!r} is not a column type of securellm.storage")
            return name
        return False

    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "render_item": render,
                "alembic_module_prefix": "op.",
                "sqlalchemy_module_prefix": "",
                "render_as_batch": False,
            },
        )
        script = produce_migrations(context, METADATA)
        assert script.upgrade_ops is not None
        body = render_python_code(
            script.upgrade_ops, alembic_module_prefix="op.", sqlalchemy_module_prefix="", render_item=render
        )
    body = re.sub(r"op\.f\(('[^']+')\)", r"\1", body)
    body = re.sub(r"\n *info=\{.*\},?", "", body)
    lines = [line.strip() for line in body.splitlines()]
    text = "\n".join(f"    {line}" for line in lines if line and not line.startswith("#"))
    scoped = sorted(table.name for table in TABLES if table.info[TENANT_SCOPED])
    text += "\n" + "\n".join(f'    raise_wall(op.get_bind(), "{name}")' for name in scoped)
    names = [
        n
        for n in (
            "CheckConstraint",
            "Column",
            "ForeignKeyConstraint",
            "PrimaryKeyConstraint",
            "UniqueConstraint",
            "text",
        )
        if f"{n}(" in text
    ]
    words = [n for n in WORDS.values() if f", {n}," in text or f", {n})" in text]
    scratch = TARGET.with_suffix(".new")
    scratch.write_text(
        HEAD.format(names=", ".join(names), words=", ".join(words), body=text.rstrip()), encoding="utf-8"
    )
    for step in (("check", "--quiet", "--fix"), ("format", "--quiet")):
        with scratch.open("rb") as file:
            command = [sys.executable, "-m", "ruff", *step, "--stdin-filename", str(TARGET), "-"]
            formatted = subprocess.run(command, check=True, stdin=file, stdout=subprocess.PIPE).stdout
        scratch.write_bytes(formatted)
    scratch.replace(TARGET)


if __name__ == "__main__":
    main()
