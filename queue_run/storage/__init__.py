"""Redis: the links to it, how patient they are, its scripts, its clock."""
