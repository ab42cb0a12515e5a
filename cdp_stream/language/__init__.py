"""The definition language of traits and audiences: text, checked values, tests, and the plan of all computations."""
