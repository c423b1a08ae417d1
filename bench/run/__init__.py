"""What is missing, carried out by an executor and written to the archive."""
