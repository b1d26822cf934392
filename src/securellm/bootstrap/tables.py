"""Every table of the control plane: importing this makes them known, whatever else a command imports.

A store is opened only when each of them is as this release has it, so those who open one import this first.
"""

from securellm.admin.store import CHANGED
from securellm.approvals.store import PROPOSALS
from securellm.finops.budgets import BUDGETS
from securellm.identity.store import PEPPER, VIRTUAL_KEYS
from securellm.identity.tables import ACCESS_TOKENS, GRANTS, ONE_TIME, PROJECTS, SERVICES, SESSIONS, USERS
from securellm.identity.tenants import TENANTS
from securellm.limits.store import LIMITS
from securellm.policy.store import VERSIONS
from securellm.preferences.store import MEMORIES, PREFERENCES
from securellm.providers.store import PROVIDERS
from securellm.routing.store import MODELS
from securellm.storage.tables import CHANGES, DATA_VERSION

TABLES = (
    *(ACCESS_TOKENS, CHANGED, CHANGES, DATA_VERSION, GRANTS, MEMORIES, ONE_TIME, PEPPER, PREFERENCES, PROJECTS),
    *(PROPOSALS, SERVICES, SESSIONS, USERS, VIRTUAL_KEYS),
    *(shelf.table for shelf in (BUDGETS, LIMITS, MODELS, PROVIDERS, TENANTS, VERSIONS)),
)
