"""The command line: one file a command, and what reads the arguments."""
