# Where pictures lie, and their way to tensors.
