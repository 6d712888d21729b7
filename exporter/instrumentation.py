"""What happened, by name: one call writes the log line, counts it and traces it."""
