"""`securellm tenant`: whose money, limits, cache and records there are."""

from securellm.cli.resource import Resource, group_of

command = group_of(
    Resource(
        noun="tenant",
        path="/admin/v1/tenants",
        columns=("id", "name", "budget", "limits", "guard", "managed_by"),
        members="id*, name, models, budget, limits, guard, policy, stale_policy_fence",
        changing="name, models, budget, limits, guard, policy, stale_policy_fence",
    ),
    help="See and change tenants, in the words of the configuration file.",
)
