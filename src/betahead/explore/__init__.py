"""The explorer: a local page on which a prompt is typed and what a run makes of it is seen."""
