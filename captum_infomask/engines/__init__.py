# ViewPlan → the network's outputs.
