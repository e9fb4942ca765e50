"""Every prefix of a prompt in every block."""
