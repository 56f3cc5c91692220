"""Jobs that carry events out of the bucks; each is safe to run twice."""
