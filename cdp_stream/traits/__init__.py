"""The third room: events are folded into the traits of their profile."""
