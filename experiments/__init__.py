"""What was measured, what was published, and the tables that the documents show of both."""
