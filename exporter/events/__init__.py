"""What an event is: the body of a message, read and judged. Pure: no I/O, no clock of its own."""
