"""The vocabulary of policies: who asks, what for, of what, and what may be known of it."""

from enum import StrEnum
from typing import Final


class Action(StrEnum):
    """What may be asked. The values are the ids of the schema's actions."""

    INVOKE = "invoke"
    STREAM = "stream"
    EMBED = "embed"
    USE_KEPT = "use_kept"
    """To read, end or delete what a provider keeps for the tenant: files, batches, stored responses."""
    PERFORM = "perform"
    """An action with a governance profile."""
    TOOL_CALL = "tool_call"
    MCP_LIST = "mcp_list"
    RETRIEVE = "retrieve"
    ADMIN_READ = "admin_read"
    ADMIN_WRITE = "admin_write"
    ADMIN_APPROVE = "admin_approve"


USE_MODEL: Final = "use_model"
"""The group of `invoke`, `stream` and `embed`: a rule about one of the three alone is easily walked around."""
USING: Final = (Action.INVOKE, Action.STREAM, Action.EMBED)
"""The members of `use_model`."""

RESOURCES: Final = {
    Action.INVOKE: "Model",
    Action.STREAM: "Model",
    Action.EMBED: "Model",
    Action.USE_KEPT: "Kept",
    Action.PERFORM: "Profile",
    Action.TOOL_CALL: "Tool",
    Action.MCP_LIST: "Server",
    Action.RETRIEVE: "Collection",
    Action.ADMIN_READ: "Setting",
    Action.ADMIN_WRITE: "Setting",
    Action.ADMIN_APPROVE: "Setting",
}
"""The type of what each action is done to."""

PRINCIPALS: Final = {"key": "Key", "user": "User", "service": "Service", "agent": "Agent"}
"""The entity type of each kind of principal, by the word before the colon."""

ADMIN: Final = frozenset({Action.ADMIN_READ, Action.ADMIN_WRITE, Action.ADMIN_APPROVE})
ADMINISTRATORS: Final = ("user", "service")
"""Who alone can ask for the actions of `ADMIN`."""

GUARD: Final = "guard"
"""The attribute that is known only after screening."""

SCHEMA: Final = """\
// Who may be named. No entity has attributes, so no look-up of one can fail; all that is known is in the context.
entity Tenant;
entity Role;
entity Project in [Tenant];
entity User in [Tenant, Project, Role];
entity Service in [Tenant, Project, Role];
entity Agent in [Tenant, Project, Role, User, Service];
entity Key in [Tenant, Project, Role, User, Service];
entity Model;
entity Kept in [Kept];
entity Profile;
entity Server;
entity Tool in [Server];
entity Collection;
entity Setting;

type Screening = {
  "injection": Long,          // 0..1000 in eight steps, rounded up: 0 143 286 429 572 715 858 1000
  "findings": Set<String>,    // types of what was found: "cpf", "card", "secret", ...
};

// Attributes with `?` are absent while they are not known. What is not known matches no comparison: `has` asks first.
type Facts = {
  "surface": String,          // "chat", "messages", "embeddings", ..., "mcp", "admin"
  "channel": String,          // "api", "process", "console", "mcp", "admin"
  "hour": Long,               // 0..23, UTC
  "weekday": Long,            // 1 (Monday) .. 7, UTC
  "providers": Set<String>,   // who can serve the model
  "needs": Set<String>,       // capabilities the request needs: "tools", "vision", "web_search", ...
  "approved_by": Long,        // people who approved exactly this
  "fields"?: Set<String>,     // of `perform`: what the action is given
  "data_class"?: Long,        // 0 public .. 4 secret
  "region"?: String,
  "residency"?: String,
  "tool_risk"?: Long,         // 0..5
  "budget_state"?: String,
  "guard"?: Screening,        // after screening
};

action use_model;
action invoke, stream, embed in [use_model]
  appliesTo { principal: [Key, User, Service, Agent], resource: [Model], context: Facts };
action use_kept appliesTo { principal: [Key, User, Service, Agent], resource: [Kept], context: Facts };
action perform appliesTo { principal: [Key, User, Service, Agent], resource: [Profile], context: Facts };
action tool_call appliesTo { principal: [Key, User, Service, Agent], resource: [Tool], context: Facts };
action mcp_list appliesTo { principal: [Key, User, Service, Agent], resource: [Server], context: Facts };
action retrieve appliesTo { principal: [Key, User, Service, Agent], resource: [Collection], context: Facts };
action admin_read, admin_write, admin_approve
  appliesTo { principal: [User, Service], resource: [Setting], context: Facts };
"""
