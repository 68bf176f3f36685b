# (Regions, imputer) → ViewPlan: what the network is shown to score each region.
