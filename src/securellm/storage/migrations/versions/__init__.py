"""One module for each step, called by its number."""
