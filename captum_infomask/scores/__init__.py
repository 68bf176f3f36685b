# Logits → nats or bits.
