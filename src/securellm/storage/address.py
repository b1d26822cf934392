"""What the address of a control plane says before anything is opened."""


def is_postgres(location: str) -> bool:
    """Whether `location` names a database of a PostgreSQL server."""
    return location.startswith(("postgresql://", "postgres://"))
