"""The fifth room: what is true of a profile becomes messages to its destinations."""
