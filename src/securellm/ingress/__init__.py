"""What clients speak: one module per dialect, wire shapes in, wire shapes and error envelopes out."""
