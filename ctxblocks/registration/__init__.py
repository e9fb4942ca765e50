"""What plugins announce, how they are found and loaded, and what clashes."""
