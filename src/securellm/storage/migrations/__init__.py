"""The steps from one schema to the next: one linear sequence, forwards only."""
