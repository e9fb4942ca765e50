"""How equal is equal: error bounds, kinds of block, and the identity on all of them."""
