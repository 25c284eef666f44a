"""The project's own benchmark: hubferry and its peers, side by side on one machine."""
