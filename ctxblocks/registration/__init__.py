"""What plugins provide, how they are found and loaded, and conflicts between them."""
