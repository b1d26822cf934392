"""The story of one request, and the stage types that link it."""
