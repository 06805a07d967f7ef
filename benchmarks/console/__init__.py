"""The operator console under attack, under load, and with a person who stops the arm."""
