"""The archive: every reading, appended, verified, merged, exported."""
