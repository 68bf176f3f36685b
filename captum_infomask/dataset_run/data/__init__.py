# Finds pictures, reads them, and turns them into tensors.
