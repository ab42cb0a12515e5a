"""The same resolution job done with other means: each peer reads the records, finds or joins the profile, and tells it."""
