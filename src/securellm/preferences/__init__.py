"""What a person asked us to remember: explicit preferences, and nothing inferred."""
