"""What an answer equals: spelling, tokens, algebra, units. It needs mpmath alone; see README.md."""
