# Exact incremental inference computes only the part of each view that its region changes.
