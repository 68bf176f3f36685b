# The token engine runs vision transformers on some of their tokens.
