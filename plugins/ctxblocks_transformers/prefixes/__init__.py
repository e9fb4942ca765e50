"""The updates of every block after every prefix of a prompt."""
