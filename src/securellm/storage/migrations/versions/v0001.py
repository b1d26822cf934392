"""The first schema of the control plane."""

from alembic import op
from sqlalchemy import CheckConstraint, Column, PrimaryKeyConstraint, UniqueConstraint

from securellm.storage.archive import raise_archive
from securellm.storage.columns import BYTES, FLAG, INTEGER, JSON, TEXT
from securellm.storage.walls import raise_wall

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table, and on PostgreSQL the wall around each tenant's rows."""
    op.create_table(
        "access_tokens",
        Column("tenant", TEXT, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("principal", TEXT, nullable=False),
        Column("name", TEXT, nullable=False),
        Column("prefix", TEXT, nullable=False),
        Column("digest", BYTES, nullable=False),
        Column("created_us", INTEGER, nullable=False),
        Column("created_by", TEXT, nullable=False),
        Column("expires_us", INTEGER, nullable=False),
        Column("revoked_us", INTEGER, nullable=True),
        PrimaryKeyConstraint("id", name="access_tokens_pkey"),
        UniqueConstraint("digest", name="access_tokens_digest_key"),
        sqlite_strict=True,
    )
    op.create_index("access_tokens_principal_idx", "access_tokens", ["principal"], unique=False)
    op.create_table(
        "admin_changes",
        Column("tenant", TEXT, nullable=False),
        Column("request_id", TEXT, nullable=False),
        Column("digest", TEXT, nullable=True),
        Column("fingerprint", TEXT, nullable=True),
        Column("made_us", INTEGER, nullable=False),
        PrimaryKeyConstraint("request_id", name="admin_changes_pkey"),
        UniqueConstraint("digest", name="admin_changes_digest_key"),
        sqlite_strict=True,
    )
    op.create_index("admin_changes_made_us_idx", "admin_changes", ["made_us"], unique=False)
    op.create_table(
        "budgets",
        Column("tenant", TEXT, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("etag", INTEGER, nullable=False),
        Column("created_us", INTEGER, nullable=False),
        Column("updated_us", INTEGER, nullable=False),
        Column("document", JSON, nullable=False),
        PrimaryKeyConstraint("tenant", "id", name="budgets_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "changes",
        Column("version", INTEGER, nullable=False),
        Column("place", INTEGER, nullable=False),
        Column("kind", TEXT, nullable=False),
        Column("tenant", TEXT, nullable=False),
        Column("name", TEXT, nullable=False),
        PrimaryKeyConstraint("version", "place", name="changes_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "data_version",
        Column("one", INTEGER, autoincrement=False, nullable=False),
        Column("version", INTEGER, nullable=False),
        CheckConstraint("one = 1", name="data_version_one_row_check"),
        PrimaryKeyConstraint("one", name="data_version_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "grants",
        Column("tenant", TEXT, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("principal", TEXT, nullable=False),
        Column("role", TEXT, nullable=False),
        Column("project", TEXT, nullable=True),
        Column("created_us", INTEGER, nullable=False),
        Column("created_by", TEXT, nullable=False),
        PrimaryKeyConstraint("id", name="grants_pkey"),
        sqlite_strict=True,
    )
    op.create_index("grants_principal_idx", "grants", ["principal"], unique=False)
    op.create_table(
        "limits",
        Column("tenant", TEXT, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("etag", INTEGER, nullable=False),
        Column("created_us", INTEGER, nullable=False),
        Column("updated_us", INTEGER, nullable=False),
        Column("document", JSON, nullable=False),
        PrimaryKeyConstraint("tenant", "id", name="limits_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "models",
        Column("id", TEXT, nullable=False),
        Column("etag", INTEGER, nullable=False),
        Column("created_us", INTEGER, nullable=False),
        Column("updated_us", INTEGER, nullable=False),
        Column("document", JSON, nullable=False),
        PrimaryKeyConstraint("id", name="models_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "one_time_secrets",
        Column("tenant", TEXT, nullable=False),
        Column("digest", BYTES, nullable=False),
        Column("purpose", TEXT, nullable=False),
        Column("subject", TEXT, nullable=False),
        Column("expires_us", INTEGER, nullable=False),
        PrimaryKeyConstraint("digest", name="one_time_secrets_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "pepper",
        Column("one", INTEGER, autoincrement=False, nullable=False),
        Column("fingerprint", BYTES, nullable=False),
        CheckConstraint("one = 1", name="pepper_one_row_check"),
        PrimaryKeyConstraint("one", name="pepper_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "policies",
        Column("tenant", TEXT, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("etag", INTEGER, nullable=False),
        Column("created_us", INTEGER, nullable=False),
        Column("updated_us", INTEGER, nullable=False),
        Column("document", JSON, nullable=False),
        PrimaryKeyConstraint("tenant", "id", name="policies_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "projects",
        Column("tenant", TEXT, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("name", TEXT, nullable=False),
        Column("created_us", INTEGER, nullable=False),
        Column("etag", INTEGER, nullable=False),
        PrimaryKeyConstraint("tenant", "id", name="projects_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "proposals",
        Column("tenant", TEXT, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("state", TEXT, nullable=False),
        Column("revision", INTEGER, nullable=False),
        Column("expires_us", INTEGER, nullable=False),
        Column("requester", TEXT, nullable=False),
        Column("document", JSON, nullable=False),
        PrimaryKeyConstraint("id", name="proposals_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "providers",
        Column("id", TEXT, nullable=False),
        Column("etag", INTEGER, nullable=False),
        Column("created_us", INTEGER, nullable=False),
        Column("updated_us", INTEGER, nullable=False),
        Column("document", JSON, nullable=False),
        PrimaryKeyConstraint("id", name="providers_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "services",
        Column("tenant", TEXT, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("project", TEXT, nullable=True),
        Column("name", TEXT, nullable=False),
        Column("issuer", TEXT, nullable=True),
        Column("subject", TEXT, nullable=True),
        Column("models", JSON, nullable=False),
        Column("surfaces", JSON, nullable=False),
        Column("ip_ranges", JSON, nullable=False),
        Column("disabled", FLAG, nullable=False),
        Column("created_us", INTEGER, nullable=False),
        Column("etag", INTEGER, nullable=False),
        PrimaryKeyConstraint("id", name="services_pkey"),
        UniqueConstraint("issuer", "subject", name="services_issuer_subject_key"),
        sqlite_strict=True,
    )
    op.create_table(
        "sessions",
        Column("tenant", TEXT, nullable=False),
        Column("digest", BYTES, nullable=False),
        Column("principal", TEXT, nullable=False),
        Column("issuer", TEXT, nullable=False),
        Column("groups", JSON, nullable=False),
        Column("created_us", INTEGER, nullable=False),
        Column("seen_us", INTEGER, nullable=False),
        PrimaryKeyConstraint("digest", name="sessions_pkey"),
        sqlite_strict=True,
    )
    op.create_index("sessions_principal_idx", "sessions", ["principal"], unique=False)
    op.create_table(
        "tenants",
        Column("id", TEXT, nullable=False),
        Column("etag", INTEGER, nullable=False),
        Column("created_us", INTEGER, nullable=False),
        Column("updated_us", INTEGER, nullable=False),
        Column("document", JSON, nullable=False),
        PrimaryKeyConstraint("id", name="tenants_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "user_memories",
        Column("tenant", TEXT, nullable=False),
        Column("principal", TEXT, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("text", TEXT, nullable=False),
        Column("created_us", INTEGER, nullable=False),
        Column("consented_in", TEXT, nullable=False),
        Column("offered_in", TEXT, nullable=True),
        PrimaryKeyConstraint("tenant", "principal", "id", name="user_memories_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "user_preferences",
        Column("tenant", TEXT, nullable=False),
        Column("principal", TEXT, nullable=False),
        Column("tone", TEXT, nullable=True),
        Column("format", TEXT, nullable=True),
        Column("language", TEXT, nullable=True),
        Column("created_us", INTEGER, nullable=False),
        Column("updated_us", INTEGER, nullable=False),
        PrimaryKeyConstraint("tenant", "principal", name="user_preferences_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "users",
        Column("tenant", TEXT, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("name", TEXT, nullable=False),
        Column("email", TEXT, nullable=False),
        Column("issuer", TEXT, nullable=True),
        Column("subject", TEXT, nullable=True),
        Column("disabled", FLAG, nullable=False),
        Column("created_us", INTEGER, nullable=False),
        Column("etag", INTEGER, nullable=False),
        PrimaryKeyConstraint("id", name="users_pkey"),
        UniqueConstraint("issuer", "subject", name="users_issuer_subject_key"),
        sqlite_strict=True,
    )
    op.create_table(
        "virtual_keys",
        Column("tenant", TEXT, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("project", TEXT, nullable=True),
        Column("user", TEXT, nullable=True),
        Column("name", TEXT, nullable=False),
        Column("prefix", TEXT, nullable=False),
        Column("digest", BYTES, nullable=False),
        Column("models", JSON, nullable=False),
        Column("surfaces", JSON, nullable=False),
        Column("ip_ranges", JSON, nullable=False),
        Column("created_us", INTEGER, nullable=False),
        Column("expires_us", INTEGER, nullable=True),
        Column("revoked_us", INTEGER, nullable=True),
        Column("former_digest", BYTES, nullable=True),
        Column("former_until_us", INTEGER, nullable=True),
        Column("etag", INTEGER, nullable=False),
        PrimaryKeyConstraint("id", name="virtual_keys_pkey"),
        UniqueConstraint("digest", name="virtual_keys_digest_key"),
        UniqueConstraint("former_digest", name="virtual_keys_former_digest_key"),
        sqlite_strict=True,
    )
    raise_wall(op.get_bind(), "access_tokens")
    raise_wall(op.get_bind(), "admin_changes")
    raise_wall(op.get_bind(), "budgets")
    raise_wall(op.get_bind(), "grants")
    raise_wall(op.get_bind(), "limits")
    raise_wall(op.get_bind(), "one_time_secrets")
    raise_wall(op.get_bind(), "policies")
    raise_wall(op.get_bind(), "projects")
    raise_wall(op.get_bind(), "proposals")
    raise_wall(op.get_bind(), "services")
    raise_wall(op.get_bind(), "sessions")
    raise_wall(op.get_bind(), "user_memories")
    raise_wall(op.get_bind(), "user_preferences")
    raise_wall(op.get_bind(), "users")
    raise_wall(op.get_bind(), "virtual_keys")
    raise_archive(op.get_bind())
    op.execute("INSERT INTO data_version (one, version) VALUES (1, 0)")
