"""Torture: workers are killed, stopped and frozen on a cluster in trouble; a checker of its own reads the topics."""
