# Vision transformers, a token at a time.
