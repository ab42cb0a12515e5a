"""Coverage-guided fuzzing of what comes from outside: `python -m fuzz`, see `__main__`."""
