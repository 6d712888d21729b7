"""The events of a sample shop, sent into a queue and accounted for exactly."""
