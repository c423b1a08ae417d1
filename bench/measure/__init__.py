"""One study, or one timing, on one device: the only stage that trains."""
