"""Spans, metrics and logs, with redaction by type and never content."""
