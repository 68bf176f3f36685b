# Exact incremental inference: of each view, only what its region changes is computed.
