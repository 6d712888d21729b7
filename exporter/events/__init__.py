"""Reads events from the bodies of messages, or says why a body is none. Pure: no I/O, no clock of its own."""
