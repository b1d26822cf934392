"""`securellm model`: the allow-list of models, each name with the ordered plan behind it."""

from securellm.cli.resource import Resource, group_of

command = group_of(
    Resource(
        noun="model",
        path="/admin/v1/models",
        key="name",
        columns=("name", "route", "managed_by"),
        members="name*, route*, retries, price, capabilities, max_output, default_max_output, context_window, "
        "max_image_tokens, cache",
        changing="route, retries, price, capabilities, max_output, default_max_output, context_window, "
        "max_image_tokens, cache",
    ),
    help="See and change models, in the words of the configuration file.",
)
