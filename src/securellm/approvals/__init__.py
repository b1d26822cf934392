"""What a human must decide: proposals that a second person approves, each used once."""
