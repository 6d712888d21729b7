"""What `check` looks at, one file a subject; each function returns what it found and changes nothing."""
