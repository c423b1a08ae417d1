"""What an archive's readings say: computed on reading, never stored."""
