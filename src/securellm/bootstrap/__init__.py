"""What is wired to what: the config tree, the composition root, the ASGI apps and their lifespan."""
