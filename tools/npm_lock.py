"""Take out of an npm lock what is neither a name, a version nor a hash: whom its packages ask for money, and where."""

import json
import sys
from pathlib import Path


def main(path: Path) -> None:
    """Write the lock at `path` without the `funding` of its packages."""
    lock = json.loads(path.read_text(encoding="utf-8"))
    for package in lock["packages"].values():
        package.pop("funding", None)
    path.write_text(json.dumps(lock, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
