"""A fleet of real Debian 13 machines on one computer; they share its kernel and its clock."""
