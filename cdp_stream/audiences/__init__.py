"""The fourth room: who is in which audience."""
